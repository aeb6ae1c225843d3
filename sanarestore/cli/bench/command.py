"""The command: what its flags ask for, and who does it."""

from sanarestore.cli.bench import flags, run, sets, speed
from sanarestore.cli.bench.plan import Wanted
from sanarestore.cli.bench.speed import SPEED
from sanarestore.cli.flags import (
    Adapter,
    Debug,
    Devices,
    Dtype,
    Fidelity,
    Guidance,
    Json,
    Model,
    Quiet,
    Steps,
    Threads,
    Tile,
)
from sanarestore.options import RestoreOptions


def bench(
    names: flags.Sets = None,
    data: flags.Data = None,
    data_dir: flags.DataDir = None,
    listed: flags.Listed = False,
    fetch: flags.Fetch = False,
    task: flags.Tasks = None,
    sigma: flags.Sigma = None,
    quality: flags.Quality = None,
    scale: flags.Scale = None,
    blur: flags.Blur = None,
    recipe: flags.Recipes = None,
    draws: flags.Draws = None,
    sizes: flags.Sizes = None,
    rounds: flags.Rounds = None,
    gray: flags.Gray = False,
    metric: flags.Metrics = None,
    limit: flags.Limit = None,
    prompt: flags.Prompt = None,
    unprompted: flags.Unprompted = False,
    model: Model = None,
    adapter: Adapter = None,
    fidelity: Fidelity = 1.0,
    steps: Steps = None,
    guidance: Guidance = 1.0,
    seeds: flags.Seeds = None,
    peers: flags.Peers = None,
    autoencoder: flags.Autoencoders = None,
    output: flags.Run = None,
    csv: flags.Csv = None,
    page: flags.Page = None,
    old: flags.Old = None,
    tile: Tile = None,
    devices: Devices = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure PSNR, SSIM and seconds per megapixel on published test sets, under the protocols of the literature."""
    options = RestoreOptions(
        prompt=prompt, model=model, adapter=adapter, fidelity=fidelity, steps=steps, guidance=guidance, tile=tile,
        dtype=dtype, threads=threads,  # type: ignore[arg-type]
    )  # fmt: skip
    levels = {
        "--sigma": sigma, "--quality": quality, "--scale": scale, "--blur": blur, "--recipe": recipe, "--draws": draws,
    }  # fmt: skip
    of_images = {
        **levels, "--data": data, "--download": fetch, "--task": task, "--gray": gray, "--metric": metric,
        "--limit": limit, "--unprompted": unprompted, "--seeds": seeds, "--peer": peers, "--autoencoder": autoencoder,
        "--output": output, "--report": page, "--compare": old,
    }  # fmt: skip
    if listed:
        others = {"--prompt": prompt, "--csv": csv, "--sizes": sizes, "--rounds": rounds}
        sets.refuse_beside_list(names or [], {**of_images, **others})
        sets.list_sets(data_dir, as_json=as_json)
        return
    if SPEED in (names or []):
        speed.refuse([name for name in names or [] if name != SPEED], {**of_images, "--data-dir": data_dir})
        speed.measure(options, devices, sizes, rounds, csv, as_json=as_json)
        return
    speed.refuse_elsewhere(sizes, rounds)
    wanted = Wanted(
        names=names or [], folders=data or [], data_dir=data_dir, download=fetch, tasks=task or [], levels=levels,
        gray=gray, metrics=metric or [], limit=limit, unprompted=unprompted, seeds=seeds, peers=peers or [],
        autoencoders=autoencoder or [],
    )  # fmt: skip
    files = run.Files(output=output, csv=csv, page=page, old=old)
    run.measure(wanted, options, devices, files, as_json=as_json, quiet=quiet)
