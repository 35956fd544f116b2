"""Anderson mixing: a fixed-point iteration that learns from its own steps (Anderson 1965).

Of the last few steps of a search it is known how the residual answered to each change of x. The
mix of them that best explains the residual of now is undone, in the form of Walker & Ni 2011,
section 2 ("type II"), so that steps that were too long, too short or askew correct each other.
Every row keeps its own history, and no row sees another's.
"""

from __future__ import annotations

import torch
from torch import Tensor

DEPTH = 6  # steps remembered
RIDGE = 1e-3  # of the mean squared change of the residual: keeps near-parallel steps apart


class AndersonMixing:
    """The history of B iterations in progress, each with its own count of steps.

    Args:
        rows: B.
        x_size: numbers in one x.
        r_size: numbers in one residual.
        device: where they are kept.
        depth: how many steps each row remembers.
    """

    def __init__(
        self, rows: int, x_size: int, r_size: int, device: torch.device, depth: int = DEPTH
    ) -> None:
        self.depth = depth
        self.steps = torch.zeros(rows, dtype=torch.long, device=device)
        self.x, self.move = (torch.zeros(rows, x_size, device=device) for _ in range(2))
        self.r = torch.zeros(rows, r_size, device=device)
        # what changed from step to step; 0 where there has been no such step
        self.dx, self.dmove = (torch.zeros(rows, depth, x_size, device=device) for _ in range(2))
        self.dr = torch.zeros(rows, depth, r_size, device=device)

    def forget(self, rows: Tensor) -> None:
        """Begin anew in some rows (indices or a mask of B), for other searches to take them."""
        self.steps[rows] = 0
        for history in (self.dx, self.dmove, self.dr):
            history[rows] = 0

    @torch.no_grad()
    def step(self, x: Tensor, move: Tensor, r: Tensor) -> Tensor:
        """Where to go next.

        Args:
            x: (B, x_size) where each row is.
            move: (B, x_size) the step that it would take on its own.
            r: (B, r_size) the residual at x that is to vanish.

        Returns:
            (B, x_size): x + move, corrected by what earlier steps have shown.
        """
        self._remember(x, move, r)
        gram = torch.bmm(self.dr, self.dr.transpose(1, 2))  # (B, depth, depth)
        known = self.steps.clamp(max=self.depth + 1).sub(1).clamp(min=1)
        mean = gram.diagonal(dim1=1, dim2=2).sum(1) / known
        # rows of a history that is still empty are all 0; the ridge alone keeps them solvable
        ridge = torch.where(mean > 0, RIDGE * mean, torch.ones_like(mean))
        # a few numbers a row: the CPU solves them in double precision, which not every device has
        gram = gram.cpu().double() + ridge.cpu().double()[:, None, None] * torch.eye(self.depth)
        # no product of matrices: a single row would be rounded otherwise than one of several
        against = (self.dr * r[:, None]).sum(2, keepdim=True).cpu().double()
        mix = torch.linalg.solve(gram, against).float().to(x.device)  # (B, depth, 1)
        return x + move - ((self.dx + self.dmove) * mix).sum(1)

    def _remember(self, x: Tensor, move: Tensor, r: Tensor) -> None:
        """Put the change since the last step in the place of the oldest one."""
        slot = self.steps.sub(1).clamp(min=0) % self.depth
        is_going = (self.steps > 0)[:, None]
        every = torch.arange(len(x), device=x.device)
        for history, now, before in (
            (self.dx, x, self.x), (self.dmove, move, self.move), (self.dr, r, self.r)
        ):  # fmt: skip
            history[every, slot] = torch.where(is_going, now - before, history[every, slot])
        self.x, self.move, self.r = x.clone(), move.clone(), r.clone()
        self.steps += 1
