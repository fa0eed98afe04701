"""Where the state of a studio lies: beside the folder of its clips, never inside.

The folder of clips is served to browsers, and whatever lies in it can be fetched; the database with every prompt, the
uploaded pictures and the log must not be. So the clips of `a/outputs` have their state in `a/.studio/outputs`: it is
found from the output folder alone, lies on the same disk, moves along with the folder around both, and two output
folders side by side have nothing in common. Where the folder around the clips does not last, as with a volume that is
mounted at the output folder itself, another place can be given. A network disk will not do: SQLite's write-ahead log
and the locks need a local one.
"""

from dataclasses import dataclass
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors

STATE_FOLDER = ".studio"
_PRIVATE = 0o700


@dataclass(frozen=True)
class StudioPaths:
    """The folders and files of one studio; all absolute."""

    outputs: Path
    state: Path

    @classmethod
    def of(cls, outputs: str | Path, state: str | Path | None = None) -> "StudioPaths":
        """For an output folder, which need not exist yet; raises `JobError` if there is no place beside it."""
        # Resolved, so that two names of one folder are one studio.
        outputs = Path(outputs).resolve()
        if state is not None:
            state = Path(state).resolve()
            if state.is_relative_to(outputs):
                raise JobError(f"The folder {state} lies in the output folder, where browsers can fetch it; move it.")
            return cls(outputs, state)
        if not outputs.name:
            raise JobError(f"{outputs} is a whole disk; choose a folder on it for the clips.")
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
    def owners(self) -> Path:
        """A lock file for each engine."""
        return self.state / "owners"

    @property
    def web_lock(self) -> Path:
        return self.state / "web.lock"

    @property
    def log(self) -> Path:
        return self.state / "engine.log"

    @property
    def last_words(self) -> Path:
        """What the engine that runs or ran last wrote to stderr."""
        return self.state / "engine.stderr"

    def prepare(self) -> None:
        """Make the folders; raises `JobError` with advice."""
        with folder_errors(self.state):
            self.state.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            # Prompts, pictures and logs are for nobody else; one that an earlier version made was open.
            self.state.chmod(_PRIVATE)
            for folder in (self.pictures, self.previews, self.owners):
                folder.mkdir(exist_ok=True)
            ignore = self.state / ".gitignore"
            if not ignore.exists():
                # Prompts and pictures do not belong into anybody's commits.
                ignore.write_text("*\n", encoding="utf-8")
        with folder_errors(self.outputs):
            self.outputs.mkdir(parents=True, exist_ok=True)
