"""ESPnet task `SERTask`: emotion recognition on discrete units."""

import argparse
from collections.abc import Callable

import numpy as np
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.spk.pooling.abs_pooling import AbsPooling
from espnet2.spk.pooling.chn_attn_stat_pooling import ChnAttnStatPooling
from espnet2.spk.pooling.mean_pooling import MeanPooling
from espnet2.tasks.abs_task import AbsTask
from espnet2.torch_utils.initialize import INITIALIZATIONS, initialize
from espnet2.train.class_choices import ClassChoices
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.trainer import Trainer
from espnet2.utils.get_default_kwargs import get_default_kwargs
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from emoq_plugin.espnet_adapters.attentive_pooling import AttentiveStatisticsPooling
from emoq_plugin.espnet_adapters.ser_model import ESPnetSERModel
from emoq_plugin.espnet_adapters.units_frontend import UnitsFrontend

frontend_choices = ClassChoices(
    name="frontend",
    classes={"emoq_units": UnitsFrontend},
    type_check=AbsFrontend,
    default="emoq_units",
)
specaug_choices = ClassChoices(
    name="specaug",
    classes={"specaug": SpecAug},
    type_check=AbsSpecAug,
    default=None,
    optional=True,
)
# The convolutions of conformer and e_branchformer see padded frames in training, as
# they do everywhere in ESPnet; inference never pads, so posteriors do not depend on it.
encoder_choices = ClassChoices(
    name="encoder",
    classes={
        "transformer": TransformerEncoder,
        "conformer": ConformerEncoder,
        "e_branchformer": EBranchformerEncoder,
    },
    type_check=AbsEncoder,
    default="transformer",
)
pooling_choices = ClassChoices(
    name="pooling",
    classes={
        "attentive_stats": AttentiveStatisticsPooling,
        "mean": MeanPooling,
        "chn_attn_stat": ChnAttnStatPooling,
    },
    type_check=AbsPooling,
    default="attentive_stats",
)


def integer_units(utterance: str, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn `units` into int64 (T, M * L), (T,) becomes one level; `clip_codes` too."""
    units = data["units"].astype(np.int64)
    data = {**data, "units": units[:, None] if units.ndim == 1 else units}
    if "clip_codes" in data:
        data["clip_codes"] = data["clip_codes"].astype(np.int64)
    return data


class SERTask(AbsTask):
    """Train and load `ESPnetSERModel` with ESPnet's own trainer.

    Data: `units` (kaldi_ark, (T, M * L) ids), `votes` (text_float, one share for
    each emotion); when there is more than one expert, `route` (text_float, M * E mixing
    weights, see `UnitsFrontend.forward`); with a clip code `clip_codes` (kaldi_ark,
    (N, C) symbols), which become tokens in front of the frames.
    """

    num_optimizers = 1
    class_choices_list = [
        frontend_choices,
        specaug_choices,
        encoder_choices,
        pooling_choices,
    ]
    trainer = Trainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task to ESPnet's parser."""
        group = parser.add_argument_group(description="Task related")
        required = parser.get_default("required")
        required += ["emotions"]
        group.add_argument(
            "--emotions", nargs="+", default=None, help="Classes in their order"
        )
        group.add_argument(
            "--init",
            type=lambda text: str_or_none(text.lower()),
            default=None,
            choices=[*INITIALIZATIONS, None],
            help="The initialization method",
        )
        group.add_argument(
            "--model_conf",
            action=NestedDictAction,
            default=get_default_kwargs(ESPnetSERModel),
            help="The keyword arguments for the model class",
        )
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Pad ids with -1; route and votes are vectors, not sequences."""
        return CommonCollateFn(
            float_pad_value=0.0, int_pad_value=-1, not_sequence=("route", "votes")
        )

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Make ids integers again; Kaldi matrices hold only floats."""
        return integer_units

    @classmethod
    def required_data_names(
        cls, train: bool = True, inference: bool = False
    ) -> tuple[str, ...]:
        """Name the inputs that must be given."""
        return ("units",) if inference else ("units", "votes")

    @classmethod
    def optional_data_names(
        cls, train: bool = True, inference: bool = False
    ) -> tuple[str, ...]:
        """Name the inputs that may be given."""
        return ("route", "clip_codes")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetSERModel:
        """Build the model and make `args` portable: no path to the quantizer stays."""
        frontend = frontend_choices.get_class(args.frontend)(**args.frontend_conf)
        args.frontend_conf = {**args.frontend_conf, **frontend.portable_conf()}
        specaug = None
        if args.specaug is not None:
            specaug = specaug_choices.get_class(args.specaug)(**args.specaug_conf)
        encoder = encoder_choices.get_class(args.encoder)(
            input_size=frontend.output_size(), **args.encoder_conf
        )
        pooling = pooling_choices.get_class(args.pooling)(
            input_size=encoder.output_size(), **args.pooling_conf
        )
        model = ESPnetSERModel(
            emotions=args.emotions,
            frontend=frontend,
            specaug=specaug,
            encoder=encoder,
            pooling=pooling,
            **args.model_conf,
        )
        if args.init is not None:
            initialize(model, args.init)
        return model
