"""How many elements a drawing makes a viewer draw, counting what `use`, patterns and the like repeat.

A few nested references multiply to billions. Knows only ids and who refers to whom.
"""

from typing import Final

from imgpro.errors import ImageTooLarge

MAX_DRAWN_ELEMENTS: Final = 2_000_000


class Weight:
    """Collects the elements of a drawing as they open and close, then weighs the whole. Use once."""

    def __init__(self) -> None:
        self._own = [0]  # elements of each node that are in no node below it; node 0 is the drawing
        self._targets: list[list[str]] = [[]]  # ids that the elements of each node refer to
        self._below: list[list[int]] = [[]]  # nodes inside each node
        self._nodes: dict[str, int] = {}  # the first element with an id is the one that is referred to
        self._path = [0]

    def enter(self, names: list[str], references: list[str]) -> None:
        """An element opens that has these ids and refers to those."""
        node = self._path[-1]
        if names and names[0] not in self._nodes:
            self._own.append(0)
            self._targets.append([])
            self._below.append([])
            self._below[node].append(len(self._own) - 1)
            node = self._nodes[names[0]] = len(self._own) - 1
        self._path.append(node)
        self._own[node] += 1
        self._targets[node] += references

    def leave(self) -> None:
        """The element that was opened last closes."""
        self._path.pop()

    def styled(self, references: list[str]) -> None:
        """A style sheet refers to these ids; who it applies to is not looked at, so they count once."""
        self._targets[0] += references

    def check(self) -> None:
        """Raise ImageTooLarge if drawing everything means too many elements. References in circles count once."""
        weights: dict[int, int] = {}
        started: set[int] = set()
        stack = [0]
        while stack:
            node = stack[-1]
            nexts = [*self._below[node], *(self._nodes[name] for name in self._targets[node] if name in self._nodes)]
            if node not in started:
                started.add(node)
                stack += [other for other in dict.fromkeys(nexts) if other not in started]
                continue
            stack.pop()
            if node in weights:
                continue
            weights[node] = self._own[node] + sum(weights.get(other, 0) for other in nexts)
            if weights[node] > MAX_DRAWN_ELEMENTS:
                raise ImageTooLarge("The drawing repeats its parts too often.")
