"""The model of the card, before and after; run as a program, it saves a checkpoint of the one before."""

import sys

import torch
from torch import nn


class Card(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 5)
        self.bn = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.linear(x))


class DsCard(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dslinear = nn.Linear(10, 5)
        self.dsbn = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dsbn(self.dslinear(x))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Card().state_dict(), sys.argv[1])
