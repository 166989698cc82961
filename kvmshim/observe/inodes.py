"""Numbers for the paths of a tree whose names come and go."""

import itertools

from kvmshim.observe.tree import Path


class Inodes:
    """A number for each path that the kernel knows, until it forgets it; the root has its own."""

    def __init__(self, root: int) -> None:
        self._paths: dict[int, Path] = {root: ()}
        self._numbers: dict[Path, int] = {(): root}
        self._known: dict[int, int] = {}
        self._root = root
        self._next = itertools.count(root + 1)

    def path(self, inode: int) -> Path:
        """The path of a number that the kernel knows."""
        return self._paths[inode]

    def know(self, path: Path) -> int:
        """The number of a path, which the kernel is told of once more."""
        inode = self._numbers.get(path)
        if inode is None:
            inode = next(self._next)
            self._numbers[path], self._paths[inode] = inode, path
        self._known[inode] = self._known.get(inode, 0) + 1
        return inode

    def forget(self, inode: int, times: int) -> None:
        """The kernel forgets so many of those times."""
        left = self._known.get(inode, 0) - times
        if left > 0 or inode == self._root:
            self._known[inode] = max(left, 0)
            return
        self._known.pop(inode, None)
        if inode in self._paths:
            del self._numbers[self._paths.pop(inode)]

    def __len__(self) -> int:
        return len(self._paths)
