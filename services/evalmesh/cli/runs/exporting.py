"""`evalmesh runs export`: a run as a folder or an archive that needs nothing else."""

import argparse
import asyncio
import shutil
import tarfile
import tempfile
from pathlib import Path

from evalmesh.cli import exits
from evalmesh.cli.amounts import bytes_text, folder_bytes
from evalmesh.cli.eval.outputs import write_config_of, write_outputs
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.runs.choosing import chosen_id
from evalmesh.cli.which import LATEST
from evalmesh.domain.errors import FailedPrecondition, InvalidInput, NotFound

_REPORTS = frozenset({"gateway", "report_aggregator"})
_ENDINGS = (".tar.gz", ".tgz")


def export_run(args: argparse.Namespace) -> int:
    """Writes it, and says where."""
    place = Place.of(args, at_work=frozenset(), hosted=_REPORTS, processes=False, runners=1)
    written = run_async(_export(args.run or LATEST, Path(args.to).expanduser() if args.to else None, place))
    size = folder_bytes(written) if written.is_dir() else written.stat().st_size
    print(f"{written}  {bytes_text(size)}")
    return exits.OK


async def _export(text: str, to: Path | None, place: Place) -> Path:
    async with connect(place) as client:
        run = await client.get_run(await chosen_id(client, text, place))
        own = RUNS.folder_of(run, Path()).name
        target = to or Path(f"{own}.tar.gz")
        archive = target.name.endswith(_ENDINGS)
        _check_free(target, archive=archive)
        with tempfile.TemporaryDirectory(dir=_parent(target), prefix=".export-") as scratch:
            folder = Path(scratch) / own
            folder.mkdir()
            try:
                await write_outputs(client, run, folder)
            except NotFound:
                raise FailedPrecondition(
                    f"Run {run.id} has no report yet ({run.state.value.lower()}), so there is nothing to export; go on "
                    f"with it first: evalmesh runs resume {run.id}{place.flags}"
                ) from None
            kept = RUNS.find_folder(run.id, place.work_dir)
            if kept is not None:
                shutil.copy2(kept / RUNS.config_file, folder / RUNS.config_file)
            else:
                write_config_of(run, folder)
            if archive:
                part = Path(scratch) / "archive"
                await asyncio.to_thread(_pack, folder, part)
                part.replace(target)
            elif target.is_dir():
                for path in folder.iterdir():
                    path.replace(target / path.name)
            else:
                folder.replace(target)
    return target


def _check_free(target: Path, *, archive: bool) -> None:
    if target.is_dir() and not archive and not any(target.iterdir()):
        return
    if target.exists():
        raise InvalidInput(f"--to: {str(target)!r} is there already; name another, or remove it.", {"field": "to"})
    if not target.name:
        raise InvalidInput(f"--to: {str(target)!r} is no place to write to; name a folder or FILE.tar.gz.")


def _parent(target: Path) -> Path:
    """Where it is made first: on the same disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent


def _pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, arcname=folder.name)
