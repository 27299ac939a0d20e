"""Stage 5: encode a set with the quantizers of one fold, every arm at every rate."""

import argparse
import contextlib
import os
from pathlib import Path

from emoq_plugin.batches import in_batches
from emoq_plugin.bin._command import run_command
from emoq_plugin.experiment import (
    CROSSFIT,
    UNHEARD,
    bank_directory,
    check_no_leak,
    parse_rate,
    read_fold,
)
from emoq_plugin.progress import progress
from emoq_plugin.stage import Stage


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="encode_units", description=__doc__)
    add = parser.add_argument
    add("--quantizer_dir", type=Path, required=True, help="exp/<tag>/fold<n>/quantizer")
    add("--feature_dir", type=Path, required=True, help="dump/<feature>/<set>")
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--fold", required=True, help="name of the fold")
    add("--rates", nargs="+", required=True, help="<K>x<L> ..., as in stage 4")
    add("--arms", nargs="+", required=True, help="balanced, <group>-<router> ...")
    add("--route_depth", type=int, default=1, help="levels that routers look at")
    add("--beam", type=int, default=1, help="code sequences kept for a frame")
    add("--seed", type=int, default=0, help="of the controls random and wrong")
    add("--output_dir", type=Path, required=True, help="dump/units/<tag>/fold<n>/<set>")
    return parser


def judge_of_speaker(directory: Path, fold, data) -> dict:
    """Give, by training speaker, the bank learned without that speaker (if any)."""
    from emoq_plugin.quantizers.bank import CodebookBank

    judges = {}
    for place in sorted((directory / CROSSFIT).glob("[0-9]*")):
        bank = CodebookBank.from_pretrained(place)
        check_no_leak(bank.card, fold, data, str(place))
        judges |= dict.fromkeys(bank.card["held_out_speakers"], bank)
    return judges


def read_unheard(path: Path, emotions: list[str]) -> dict:
    """Read posteriors of training clips by routers without their speaker (if any)."""
    from emoq_plugin.data.votes import parse_votes
    from emoq_plugin.files import read_table

    if not path.exists():
        return {}
    return {u: parse_votes(text, emotions) for u, text in read_table(path).items()}


def work(options: argparse.Namespace) -> None:
    """Encode clip by clip; each expert and level is computed once for a clip."""
    folder = options.folds / options.fold
    stage = Stage(
        options.output_dir,
        inputs=[
            options.quantizer_dir,
            options.feature_dir,
            options.data_dir,
            options.emotions,
            *(folder / part for part in ("train", "valid", "test")),
        ],
        settings={
            "rates": options.rates,
            "arms": options.arms,
            "route_depth": options.route_depth,
            "beam": options.beam,
            "seed": options.seed,
        },
    )
    if stage.is_done():
        return

    import torch

    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.features.store import FeatureStore
    from emoq_plugin.quantizers.bank import CodebookBank
    from emoq_plugin.quantizers.clip import ClipEncoding
    from emoq_plugin.quantizers.learn_bank import speaker_means
    from emoq_plugin.routing.arms import encode_clips, parse_arms
    from emoq_plugin.routing.routers import Facts
    from emoq_plugin.units.bitrate import StreamCounts, bitrates, usage
    from emoq_plugin.units.store import UnitWriter, write_cards

    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    features = FeatureStore(options.feature_dir)
    fold = read_fold(options.folds, options.fold, data)
    arms = parse_arms(options.arms)
    targets = data.targets(data.utterances, emotions).argmax(axis=1)
    truth = {u: emotions[label] for u, label in zip(data.utterances, targets)}
    part_of = {u: "train" for u in fold.train} | {u: "test" for u in fold.test}
    by_speaker: dict[str, torch.Tensor] = {}

    unheard = read_unheard(options.quantizer_dir / UNHEARD, emotions)
    directories = {r: bank_directory(options.quantizer_dir, r, options.rates)
                   for r in options.rates}  # fmt: skip
    stage.start()
    for directory in dict.fromkeys(directories.values()):
        bank = CodebookBank.from_pretrained(directory)
        judges = judge_of_speaker(directory, fold, data)
        check_no_leak(bank.card, fold, data, str(directory))
        if bank.card["feature_fingerprint"] != features.card.fingerprint():
            raise ValueError(
                f"{directory} was learned from other features "
                f"({bank.card['feature']['encoder']}, "
                f"{bank.card['feature']['dimension']} dimensions) than "
                f"{options.feature_dir} holds ({features.card.encoder}, "
                f"{features.card.dimension} dimensions)"
            )
        if bank.normalization.kind == "speaker" and not by_speaker:
            by_speaker = speaker_means(features, data.speaker)
        rates = [r for r in options.rates if directories[r] == directory]
        cells = [(rate, parse_rate(rate), arm) for rate in rates for arm in arms]
        counts = {}
        with contextlib.ExitStack() as stack:
            writers = []
            for rate, (size, n_levels), arm in cells:
                arm.experts(bank)  # an unknown group is told before any work
                output = options.output_dir / rate / arm.name
                writer = UnitWriter(
                    output,
                    size=size,
                    n_levels=n_levels,
                    routed=arm.router is not None,
                )
                writers.append(stack.enter_context(writer))
                for part in ("train", "test"):
                    counts[rate, arm, part] = StreamCounts([size] * n_levels)
            what = f"encoding {directory.name}"
            lengths = ((u, features.lengths[u]) for u in features.utterances)
            for batch in in_batches(progress(lengths, len(features), what)):
                clips, routed_by = [], []
                for utterance in batch:
                    frames = torch.from_numpy(features[utterance])
                    speaker = data.speaker[utterance]
                    mean = by_speaker.get(speaker)
                    clips.append(ClipEncoding(bank, frames, speaker_mean=mean))
                    judge = judges.get(speaker)
                    routed_by.append(
                        clips[-1]
                        if judge is None
                        else ClipEncoding(judge, frames, speaker_mean=mean)
                    )
                for writer, (rate, (_, n_levels), arm) in zip(writers, cells):
                    depth = min(options.route_depth, n_levels)
                    facts = [
                        Facts(
                            depth=depth,
                            utterance=utterance,
                            emotion=truth[utterance],
                            seed=options.seed,
                            unheard=unheard.get(utterance),
                        )
                        for utterance in batch
                    ]
                    encoded = encode_clips(
                        arm,
                        clips,
                        facts,
                        n_levels,
                        beam=options.beam,
                        routed_by=routed_by,
                    )
                    for utterance, (route, codes) in zip(batch, encoded):
                        writer.write(utterance, codes.numpy(), route)
                        if part := part_of.get(utterance):
                            count = counts[rate, arm, part]
                            count.add(codes.numpy(), list(route))
        for rate, (_, n_levels), arm in cells:
            test, train = counts[rate, arm, "test"], counts[rate, arm, "train"]
            output = options.output_dir / rate / arm.name
            frame_rate = features.card.frame_rate_hz
            found = bitrates(
                test,
                train,
                frame_rate_hz=frame_rate,
                n_streams=2 if arm.router == "soft" else 1,
                side_bits_per_clip=arm.side_bits(bank),
            )
            card = {
                "rate": rate,
                "arm": arm.name,
                "experts": arm.experts(bank),
                "n_levels": n_levels,
                "size": bank.sizes[0],
                "quantizer": os.path.relpath(directory, output),
                "codebooks_sha256": bank.codebooks_sha256,
                "frame_rate_hz": frame_rate,
            }
            write_cards(output, card, {**found, **usage(test)})
    stage.finish(clips=len(features), cells=len(options.rates) * len(arms))


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
