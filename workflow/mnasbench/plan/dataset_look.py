"""Whether the dataset still is what its manifest says, and the calibration images what they were when chosen."""

from pathlib import Path

from mnasbench.data.available import Extent
from mnasbench.data.changes import Change, changed_files, dataset_changes
from mnasbench.data.layouts import Dataset, files_of_classes
from mnasbench.data.manifest_file import read_manifest
from mnasbench.errors import MnasbenchError, one_line
from mnasbench.files import read_json
from mnasbench.plan import names
from mnasbench.settings import Settings


def described_dataset(settings: Settings) -> Dataset:
    """The dataset that is scored."""
    dataset = settings["dataset"]
    return Dataset(
        root=Path(names.dataset_root(settings)),
        labels=Path(dataset["labels"]) if dataset["labels"] else None,
        wnids=Path(dataset["wnids"]) if dataset["wnids"] else None,
        numbering=dataset["classes"],
        limit=dataset["limit"],
    )


def label_files(settings: Settings) -> list[str]:
    """The user's own files that give classes their numbers."""
    if settings.is_demo:
        return []
    return [str(file) for file in files_of_classes(described_dataset(settings))]


def _root_of(receipt: Path) -> str | None:
    """The dataset's root in the command of a receipt; None where there is no such receipt."""
    try:
        command = read_json(receipt)["command"]
        return str(command[command.index("--root") + 1])
    except (MnasbenchError, LookupError, TypeError, ValueError, AttributeError):
        return None


class DatasetLook:
    """One look at the dataset, taken when the first job asks for it."""

    def __init__(self, settings: Settings, extent: Extent) -> None:
        self._settings = settings
        self._extent = extent
        self._changes: list[Change] | None = None
        self._error = ""

    def _look(self) -> list[Change]:
        if self._changes is None:
            manifests = [Path(names.shard_manifest(self._settings, shard)) for shard in names.shards(self._settings)]
            by_contents = self._settings["verify"] == "contents"
            try:
                self._changes = list(
                    dataset_changes(described_dataset(self._settings), manifests, by_contents, self._extent.files)
                )
            except MnasbenchError as error:  # the indexing jobs say it as their own error
                self._changes, self._error = [], str(error)
        return self._changes

    def why_shard_changed(self, shard: int) -> str | None:
        """Why a shard must be indexed again, in one line; None where it is as its manifest says."""
        changes = [change for change in self._look() if change.shard == shard]
        if self._error or not changes:
            return self._error or None
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        return f"the dataset differs from its manifest: {changes[0]}{more}"

    def why_calibration_changed(self) -> str | None:
        """Why the calibration images must be chosen again, in one line; None where they need not."""
        chosen = Path(names.calibration_digests(self._settings))
        if chosen.is_file():
            try:
                changed = changed_files(chosen)
            except MnasbenchError as error:
                changed = [str(error)]
            if changed:
                return f"calibration images differ from those that were chosen: {changed[0]}"
        return self._why_others_are_chosen()

    def _why_others_are_chosen(self) -> str | None:
        """Whether a change of the dataset may change which of its images are chosen, where they are its own."""
        manifest = Path(names.manifest(self._settings))
        if self._settings.is_demo or self._settings["calibration"]["source"] is not None:
            return None
        if not manifest.is_file():  # nothing else says which dataset they were chosen from
            root = _root_of(Path(names.calibration_receipt(self._settings)))
            now = names.dataset_root(self._settings)
            return None if root in {None, now} else f"they were chosen from {one_line(root)}, not from {one_line(now)}"
        changes = [change for change in self._look() if not change.is_of_content]
        if not changes:
            return None
        try:
            indexed = {image.name for image in read_manifest(manifest, with_faulty=True)}
        except MnasbenchError as error:
            return str(error)
        # Another content is seen by the digests of the chosen ones. And what is new to its shard, but not to the
        # dataset, only says that the number of shards is another.
        changes = [change for change in changes if not (change.is_new and change.name in indexed)]
        return f"the dataset that they are chosen from differs: {changes[0]}" if changes else None
