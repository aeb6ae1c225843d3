"""`sanarestore restore`: files and folders in, restored files out."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanarestore.cli import clips, values
from sanarestore.cli.batch_events import sheet_of, shown
from sanarestore.cli.dry_run import rehearse
from sanarestore.cli.flags import (
    CONSOLE,
    MACHINE,
    Adapter,
    Candidates,
    ChosenJudge,
    Debug,
    Devices,
    Dtype,
    Fidelity,
    Guidance,
    Json,
    Model,
    OtherAutoencoder,
    Preset,
    Prompt,
    Quiet,
    Ray,
    Seed,
    Steps,
    Threads,
    Tile,
    Verbose,
)
from sanarestore.cli.memory_flags import DeviceMemory, Offload, Quantize
from sanarestore.cli.pipe import refuse_what_no_pipe_can, through_pipe
from sanarestore.cli.result_flags import (
    BitDepth,
    Format,
    KeepDates,
    LongSide,
    Name,
    Quality,
    Scale,
    Strip,
    ToldProvenance,
)
from sanarestore.cli.watch import batches_as_files_arrive, refuse_what_cannot_be_watched
from sanarestore.errors import UsageError
from sanarestore.options import (
    BLENDED_OVERLAP,
    BLENDING,
    BatchOptions,
    ClipOptions,
    RestoreOptions,
    WriteOptions,
    parse_bit_depth,
    parse_shard,
)
from sanarestore.sizes import parse_size

if TYPE_CHECKING:
    pass

RUN = "Batch"


def restore(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Photos: files, folders, globs, @list.txt, or - for stdin.", show_default=False
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Output folder or file, or - for stdout.",
            show_default="beside the input; stdout for stdin",
        ),
    ] = None,
    prompt: Prompt = None,
    preset: Preset = None,  # read by SettingsCommand
    strength: Annotated[
        float,
        typer.Option(
            "--strength", metavar="0..1", help="Fraction of the change to apply; 0 leaves the input unchanged."
        ),
    ] = 1.0,
    model: Model = None,
    adapter: Adapter = None,
    autoencoder: OtherAutoencoder = None,
    fidelity: Fidelity = 1.0,
    steps: Steps = None,
    guidance: Guidance = 1.0,
    candidates: Candidates = 1,
    judge: ChosenJudge = None,
    scale: Scale = 1.0,
    long_side: LongSide = None,
    seed: Seed = 0,
    format: Format = "preserve",  # noqa: A002 - the word users say
    quality: Quality = None,
    bit_depth: BitDepth = "keep",
    name: Name = None,
    keep_dates: KeepDates = False,
    strip: Strip = False,
    provenance: ToldProvenance = False,
    tile: Tile = None,
    tiling: Annotated[
        str,
        typer.Option(
            "--tiling",
            metavar="SCHEME",
            autocompletion=values.tilings,
            help=f"Tiling scheme: exact (same result as untiled), off (untiled), or one that blends overlapping tiles: "
            f"{', '.join(BLENDING)}.",
            rich_help_panel=MACHINE,
        ),
    ] = "exact",
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            metavar="PX",
            help="Overlap of blended tiles in pixels.",
            show_default=str(BLENDED_OVERLAP),
            rich_help_panel=MACHINE,
        ),
    ] = None,
    devices: Devices = "auto",
    ray: Ray = None,
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    offload: Offload = "none",
    device_memory: DeviceMemory = None,
    threads: Threads = None,
    frames: clips.Frames = False,
    temporal: clips.Temporal = 1.0,
    codec: clips.Codec = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that already exist.", rich_help_panel=RUN)
    ] = False,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="Take over results whose journal is lost, by the provenance in them.",
            rich_help_panel=RUN,
        ),
    ] = False,
    accept_damaged: Annotated[
        bool,
        typer.Option(
            "--accept-damaged", help="Restore what can be read of damaged photos, with a note.", rich_help_panel=RUN
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Do only part I of N, so that several machines share a batch; all parts need the same output folder.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    memory_per_file: Annotated[
        str | None,
        typer.Option(
            "--memory-per-file",
            metavar="SIZE",
            help="Refuse photos that would need more memory, such as 8G.",
            show_default="what is free",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first file that fails.", rich_help_panel=RUN)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check all, list what would be written, and exit.", rich_help_panel=RUN),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Keep running, and restore photos as they arrive in a folder.", rich_help_panel=RUN
        ),
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            metavar="FILE",
            help="Add every outcome to a file, as JSON.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    report_folder: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FOLDER",
            help="Write pages that show every photo before and after.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    as_json: Json = False,
    progress: Annotated[
        bool,
        typer.Option("--progress", help="With --json, print progress too.", rich_help_panel=CONSOLE),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Restore photographs. Folder trees are mirrored, finished files are skipped, and inputs never change."""
    options = RestoreOptions(
        prompt=prompt, strength=strength, model=model, adapter=adapter, autoencoder=autoencoder, fidelity=fidelity,
        steps=steps, guidance=guidance, candidates=candidates, judge=judge, scale=scale, long_side=long_side,
        tile=tile, tiling=tiling, overlap=overlap, dtype=dtype, quantize=quantize, offload=offload,  # type: ignore[arg-type]
        device_memory=device_memory, seed=seed, threads=threads,
    )  # fmt: skip
    write = WriteOptions(
        format=format, quality=quality, bit_depth=parse_bit_depth(bit_depth), keep_dates=keep_dates,  # type: ignore[arg-type]
        strip=strip, provenance=provenance,
    )  # fmt: skip
    if ray is not None:
        _refuse_what_no_cluster_can(inputs, output, devices, dry_run=dry_run)

    chosen = BatchOptions(
        write=write, name=name, overwrite=overwrite, accept_damaged=accept_damaged, adopt=adopt,
        shard=None if shard is None else parse_shard(shard),
        memory_per_file=None if memory_per_file is None else parse_size(memory_per_file, "--memory-per-file"),
    )  # fmt: skip
    clip = ClipOptions(temporal=temporal, codec=codec)
    if clips.are_named(inputs, frames=frames):
        raise typer.Exit(
            clips.restore_clips(
                inputs, output, options, chosen, clip, frames=frames, devices=devices, fail_fast=fail_fast,
                dry_run=dry_run, as_json=as_json, progress=progress, quiet=quiet, verbose=verbose, debug=debug,
                log=log_file, refused=(
                    ("--ray", ray is not None), ("--watch", watch), ("--report", report_folder is not None),
                    ("--shard", shard is not None), ("--adopt", adopt), ("-o -", output == "-"),
                    ("--memory-per-file", memory_per_file is not None),
                ),
            )
        )  # fmt: skip
    clips.refuse_what_only_clips_have(clip)
    if output == "-" or "-" in inputs:
        for flag, is_given in (("--report", report_folder is not None), ("--watch", watch)):
            if is_given:
                raise UsageError("a pipe cannot have it", where=flag, next_step="Leave it out, or name files.")
        refuse_what_no_pipe_can(inputs, output, devices, chosen, as_json=as_json, dry_run=dry_run)
        raise typer.Exit(
            through_pipe(inputs[0], output, options, devices, chosen, as_json=as_json, quiet=quiet, log=log_file)
        )
    from sanarestore import weights
    from sanarestore.cli import console, reports
    from sanarestore.engine.batch import Batch
    from sanarestore.engine.ray_crew import parse_cluster
    from sanarestore.engine.workers import parse_devices

    where = parse_devices(devices) if ray is None else parse_cluster(ray)
    if watch:
        refuse_what_cannot_be_watched(inputs, chosen, dry_run=dry_run)
        batches = batches_as_files_arrive(inputs[0], output, options, chosen)
    else:
        batch = Batch(inputs, output, options, chosen)
        if dry_run:
            raise typer.Exit(rehearse(batch, options, chosen, parse_devices(devices), as_json=as_json, quiet=quiet))
        batches = iter([batch])
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    console.show_licences(options.autoencoder, wanted=weights.WANTED_OF_AUTOENCODERS)
    with (
        sheet_of(report_folder, inputs) as sheet,
        reports.Report(
            "restored", 0, quiet=quiet, as_json=as_json, verbose=verbose, progress=progress, log=log_file
        ) as report,
    ):
        if watch:
            console.say(f"watching {inputs[0]}; Ctrl-C ends", quiet=quiet or as_json)
        for batch in batches:
            report.more(len(batch.jobs) + len(batch.refused))
            for note in batch.notes:
                report.note(note)
            with closing(batch.run(where)) as events:
                if shown(events, report, sheet, fail_fast=fail_fast, debug=debug):
                    break
    if report_folder is not None:
        console.say(f"the report is {report_folder / 'index.html'}", quiet=quiet or as_json)
    raise typer.Exit(report.exit_code)


def _refuse_what_no_cluster_can(inputs: list[str], output: str | None, devices: str, *, dry_run: bool) -> None:
    if output == "-" or "-" in inputs:
        raise UsageError(
            "a pipe is restored on this machine", where="--ray", next_step="Leave it out, or name files instead of -."
        )
    if devices != "auto":
        raise UsageError(
            "the cluster says what its machines have", where="--devices", next_step="Leave out --devices or --ray."
        )
    if dry_run:
        raise UsageError("a plan needs no cluster", where="--dry-run", next_step="Leave out --ray.")
