"""Which files a function is made of, and whether one of them has changed: by looking at them, without a library."""

from pathlib import Path

from edgecache.workshop.project import MANIFEST, Project

Seen = dict[Path, tuple[int, int]]
"""Time of change (ns) and size of every source."""

_NOT_SOURCES = {".edgecache", ".git", ".venv", "__pycache__", "node_modules", "target", "build"}
"""Folders that tools write."""
_MOST = 2000
"""Files looked at; more than that is not a function's source."""


def look(project: Project) -> Seen:
    """The sources as they are now: those that `[build].watch` names, else all files of the folder but the artefact.

    The manifest is always among them. What cannot be read counts as absent.
    """
    found: Seen = {}
    for file in _files(project):
        try:
            status = file.stat()
        except OSError:
            continue
        found[file] = (status.st_mtime_ns, status.st_size)
    return found


def changed(before: Seen, after: Seen) -> tuple[Path, ...]:
    """Files that were added, removed or written between two looks."""
    return tuple(sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file)))


def _files(project: Project) -> list[Path]:
    build = project.manifest.build
    roots = [project.folder / place for place in build.watch] or [project.folder]
    made = {project.artefact} if build.command else set()
    found = {project.folder / MANIFEST, *(file for root in roots for file in _below(root))} - made
    if not build.command:
        found.add(project.artefact)
    return sorted(found)


def _below(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    found: list[Path] = []
    waiting = [root]
    while waiting and len(found) < _MOST:
        for each in sorted(waiting.pop().iterdir()):
            if each.is_symlink():
                continue
            if each.is_dir():
                waiting += [] if each.name in _NOT_SOURCES else [each]
            else:
                found.append(each)
    return found[:_MOST]
