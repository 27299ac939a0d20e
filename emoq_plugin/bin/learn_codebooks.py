"""Stage 4: learn the codebooks of one fold (one job of an array over folds).

Under torchrun or srun the processes share the frames of the fold:
`torchrun --nproc_per_node 2 -m emoq_plugin.bin.learn_codebooks ...`.
"""

import argparse
import logging
import shutil
from pathlib import Path

from emoq_plugin.bin._command import run_command
from emoq_plugin.experiment import CROSSFIT, TRAIN_ON, parse_rates, read_fold
from emoq_plugin.stage import Stage


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="learn_codebooks", description=__doc__)
    add = parser.add_argument
    add("--feature_dir", type=Path, help="dump/<feature>/<set>")
    add("--feature_config", type=Path, help="instead: encode on the fly, no dump")
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--fold", required=True, help="name of the fold")
    add("--config", type=Path, required=True, help="file of conf/quantizer")
    add("--rates", nargs="+", required=True, help="<K>x<L> ..., such as 64x1 64x4")
    add("--train_on", default="train", choices=TRAIN_ON, help="parts to learn from")
    add("--route_depth", type=int, default=1, help="levels that routers look at")
    add(
        "--crossfit",
        type=int,
        default=0,
        help="parts that route each other; 0: experts route clips they have seen",
    )
    add("--corpus", required=True, help="name for the artifact's card")
    add("--output_dir", type=Path, required=True, help="exp/<tag>/fold<n>/quantizer")
    add("--device", default="cpu", help="cpu or cuda")
    return parser


def work(options: argparse.Namespace) -> None:
    """Learn one bank for each codebook size, with the most levels asked for."""
    levels = parse_rates(options.rates)
    if bool(options.feature_dir) == bool(options.feature_config):
        raise ValueError("give either --feature_dir or --feature_config")
    stage = Stage(
        options.output_dir,
        inputs=[
            options.feature_dir or options.feature_config,
            options.data_dir,
            options.emotions,
            options.config,
            *(options.folds / options.fold / p for p in ("train", "valid", "test")),
        ],
        settings={
            "levels": levels,
            "train_on": options.train_on,
            "route_depth": options.route_depth,
            "crossfit": options.crossfit,
            "corpus": options.corpus,
        },
    )
    if stage.is_done():
        return

    from emoq_plugin.learning.collective import process_group

    with process_group(options.device) as (rank, _):
        _learn(options, levels, stage, writes=rank == 0)


def _features(options: argparse.Namespace, data):
    """Give the dumped features, or an encoder that stands in for them."""
    if options.feature_dir:
        from emoq_plugin.features.store import FeatureStore

        return FeatureStore(options.feature_dir)
    from emoq_plugin.features.on_the_fly import EncodedOnTheFly
    from emoq_plugin.features.registry import build_encoder, read_feature_config

    name, conf = read_feature_config(options.feature_config)
    return EncodedOnTheFly(data, build_encoder(name, device=options.device, **conf))


def _learn(
    options: argparse.Namespace, levels: dict[int, int], stage: Stage, *, writes: bool
) -> None:
    """Learn every bank; of several processes, the one that `writes` saves them."""
    import torch

    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.quantizers.clip import ClipEncoding
    from emoq_plugin.quantizers.learn_bank import (
        QuantizerConfig,
        fit_bank_normalization,
        learn_bank,
        speaker_means,
    )
    from emoq_plugin.routing.fitting import fit_routers

    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    features = _features(options, data)
    config = QuantizerConfig.read(options.config)
    fold = read_fold(options.folds, options.fold, data)
    chosen = fold.train + (fold.valid if options.train_on == "train+valid" else ())
    learned = set(chosen)
    # The order of the arks, so that a pass reads them from front to back.
    utterances = [u for u in features.utterances if u in learned]
    targets = data.targets(utterances, emotions)
    by_speaker = {}
    if config.norm == "speaker":
        by_speaker = speaker_means(features, data.speaker)

    def means(utterance: str) -> torch.Tensor | None:
        return by_speaker.get(data.speaker[utterance])

    card = {
        "corpus": options.corpus,
        "fold": fold.name,
        "seed": config.learning.get("seed", 0),
        "feature": features.card.to_json(),
        "feature_fingerprint": features.card.fingerprint(),
        "route_depth": options.route_depth,
        "train_on": options.train_on,
        "training_speakers": sorted({data.speaker[u] for u in utterances}),
    }
    if writes:
        stage.start()
    normalization = fit_bank_normalization(features, utterances, config, means)
    for size, n_levels in levels.items():
        output = options.output_dir / f"{size}x{n_levels}"
        part = Stage(
            output,
            settings={"stage": stage.fingerprint, "size": size, "levels": n_levels},
        )
        if part.is_done():
            continue
        part.output.mkdir(parents=True, exist_ok=True)
        speakers = card["training_speakers"]
        # The bank itself, then those that route the training clips they have not seen.
        parts = {output: []} | {
            output / CROSSFIT / str(j): speakers[j :: options.crossfit]
            for j in range(options.crossfit)
        }
        for place, left_out in parts.items():
            depth = min(options.route_depth, n_levels)
            held_out = {u for u in utterances if data.speaker[u] in left_out}
            bank = learn_bank(
                features,
                features.lengths,
                targets,
                utterances=utterances,
                emotions=emotions,
                sizes=[size] * (depth if left_out else n_levels),
                config=config,
                means=means,
                normalization=normalization,
                card=card
                | {
                    "training_speakers": sorted(set(speakers) - set(left_out)),
                    "held_out_speakers": left_out,
                },
                held_out=held_out,
                work_dir=place,
                device=options.device,
            )
            if not writes:
                continue
            if "specific" in bank.groups:
                seen = [i for i, u in enumerate(utterances) if u not in held_out]
                clips = (
                    ClipEncoding(
                        bank,
                        torch.from_numpy(features[utterances[i]]),
                        speaker_mean=means(utterances[i]),
                    )
                    for i in seen
                )
                bank.router_parameters = fit_routers(
                    bank, clips, targets[seen], depth=depth
                )
            bank.save_pretrained(place)
        if not writes:
            continue
        # What an earlier call with more parts left would still route clips in stage 5.
        for old in (output / CROSSFIT).glob("[0-9]*"):
            if old not in parts:
                shutil.rmtree(old)
        for place in parts:
            (place / "checkpoint.safetensors").unlink(missing_ok=True)
        part.finish()
        logging.info("%s: %d experts", output, len(bank.experts))
    if writes:
        stage.finish()


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
