"""Paths of a studio's state: next to its output folder, never inside it.

The output folder is served to browsers, so everything in it can be downloaded; the database with every prompt, the
uploaded pictures and the log must not be. Therefore the state of `a/outputs` is in `a/.studio/outputs`: it can be
derived from the output folder, is on the same disk, moves along with the parent folder, and is separate for each of
several output folders. Where the parent folder is not persistent, for example if a volume is mounted at the output
folder itself, another location can be given. Network drives are not supported: SQLite's write-ahead log and the locks
need a local disk.
"""

from dataclasses import dataclass
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors

STATE_FOLDER = ".studio"
PAGE_LOG = "page.log"
_PRIVATE = 0o700


@dataclass(frozen=True)
class StudioPaths:
    """The folders and files of one studio, as absolute paths."""

    outputs: Path
    state: Path

    @classmethod
    def of(cls, outputs: str | Path, state: str | Path | None = None) -> "StudioPaths":
        """The paths for an output folder, which need not exist; raises `JobError` for an unsuitable location."""
        # Resolved, so that different names of a folder refer to the same studio.
        outputs = Path(outputs).resolve()
        if state is not None:
            state = Path(state).resolve()
            if state.is_relative_to(outputs):
                raise JobError(f"The folder {state} is in the output folder, where browsers can download it; move it.")
            return cls(outputs, state)
        if not outputs.name:
            raise JobError(f"{outputs} is the root of a disk; choose a folder on it for the clips.")
        return cls(outputs, outputs.parent / STATE_FOLDER / outputs.name)

    @property
    def database(self) -> Path:
        return self.state / "jobs.db"

    @property
    def pictures(self) -> Path:
        return self.state / "pictures"

    @property
    def uploads(self) -> Path:
        """What browsers sent and nobody has queued yet."""
        return self.state / "uploads"

    @property
    def previews(self) -> Path:
        return self.state / "previews"

    @property
    def drawings(self) -> Path:
        """First frames that were drawn and are not kept with a job yet."""
        return self.state / "drawings"

    @property
    def improving(self) -> Path:
        """Parts of clips that are being improved; see `improve.chunk_folder`."""
        return self.state / "improving"

    @property
    def owners(self) -> Path:
        """The folder with a lock file for each engine."""
        return self.state / "owners"

    @property
    def web_lock(self) -> Path:
        return self.state / "web.lock"

    @property
    def checks_lock(self) -> Path:
        """Held by the process that checks takes."""
        return self.state / "checks.lock"

    @property
    def checks_log(self) -> Path:
        """What that process said last."""
        return self.state / "checks.log"

    @property
    def compiled(self) -> Path:
        """Compiled parts of models."""
        return self.state / "compiled"

    @property
    def log(self) -> Path:
        return self.state / "engine.log"

    @property
    def page_log(self) -> Path:
        return self.state / PAGE_LOG

    @property
    def engine_stderr(self) -> Path:
        """The stderr output of the current or last engine."""
        return self.state / "engine.stderr"

    def prepare(self) -> None:
        """Create the folders; raises `JobError` with advice."""
        with folder_errors(self.state):
            self.state.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            # Prompts, pictures and logs are for nobody else; one that an earlier version made was open.
            self.state.chmod(_PRIVATE)
            for folder in (self.pictures, self.previews, self.owners):
                folder.mkdir(exist_ok=True)
            ignore = self.state / ".gitignore"
            if not ignore.exists():
                # Prompts and pictures do not belong in commits.
                ignore.write_text("*\n", encoding="utf-8")
        with folder_errors(self.outputs):
            self.outputs.mkdir(parents=True, exist_ok=True)
