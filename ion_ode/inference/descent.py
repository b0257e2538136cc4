"""Least squares from many starts at once, each with a damping of its own

Levenberg (1944, 10.1090/qam/10666) and Marquardt (1963, 10.1137/0111030); along a bent valley with the second order of
Transtrum and Sethna (2012, 10.48550/arXiv.1201.5885). What is fitted solves a transport problem
for every start, so that one call asks about all of them, from the solutions of the step before."""

from typing import NamedTuple

import numpy as np

__all__ = ["Damping", "Descent", "descend", "step"]


class Damping(NamedTuple):
    "How a start is damped and when it has arrived."

    first: float = 1e-2  # Of the diagonal
    easier: float = 0.2  # After a step that gained
    harder: float = 5.0  # After one that did not
    least: float = 1e-9
    most: float = 1e7  # Above which no step gains any more
    longest: float = 0.1  # Largest change of one number in a step
    low: float = 0.0  # Bounds of every number
    high: float = 1.0
    still: float = 1e-7  # A move below it is none
    bend: float = 0.0  # Largest second order of a move over its first that is still taken; 0: no second order


class Descent(NamedTuple):
    "Where the starts ended."

    x: np.ndarray  # (start, parameter)
    cost: np.ndarray  # (start,) half the sum of squares
    jacobian: np.ndarray  # (start, residual, parameter)
    asked: np.ndarray  # (start,) evaluations
    settled: np.ndarray  # (start,) whether it came to rest within the steps


def step(
    J: np.ndarray,  # (start, residual, parameter)
    r: np.ndarray,  # (start, residual)
    x: np.ndarray,  # (start, parameter)
    held: np.ndarray,  # (start, parameter) what does not move
    damping: np.ndarray,  # (start,)
    rule: Damping = Damping(),
) -> np.ndarray:  # (start, parameter)
    "Levenberg and Marquardt's step for many vectors; what presses against its bound stays."
    return _within(_towards(*_system(J, r, x, held, damping, rule), J, r), rule)


def _within(move, rule):
    "A move, shortened to the longest that is allowed."
    return move * (rule.longest / np.maximum(np.abs(move).max(1, keepdims=True), rule.longest))


def _system(J, r, x, held, damping, rule):
    "Damped normal equations, and what stays."
    g = (J * r[..., None]).sum(1)
    stay = held | (x <= rule.low) & (g > 0) | (x >= rule.high) & (g < 0)
    H = np.where(stay[:, None] | stay[:, :, None], 0.0, J.transpose(0, 2, 1) @ J)
    size, every = H.diagonal(axis1=1, axis2=2), range(x.shape[1])
    H[:, every, every] += damping[:, None] * np.maximum(size, 1e-9 * size.max(1, keepdims=True)) + stay + 1e-300
    return H, stay


def _towards(H, stay, J, r):
    "The move that these equations ask for against residuals r."
    return -np.linalg.solve(H, np.where(stay, 0.0, (J * r[..., None]).sum(1))[..., None])[..., 0]


_PROBE = 0.1  # Of a step, at which the bend of the residuals along it is read


def _bent(residuals, J, r, x, rule, system, move, guess):
    "A step with its second order, where that is small beside the first."
    at = np.clip(x + _PROBE * move, rule.low, rule.high)
    beyond = residuals(at, guess)[0] - r - (J @ (at - x)[..., None])[..., 0]
    second = _towards(*system, J, beyond / _PROBE**2)
    small = 2 * np.abs(second).max(1) < rule.bend * np.abs(move).max(1)
    return move + np.where(small[:, None], second, 0.0)


def _cost(r):
    "Half the sum of squares; infinite where there is no answer."
    return np.nan_to_num(0.5 * (r**2).sum(1), nan=np.inf)


def descend(
    residuals,  # Of vectors (start, parameter) and a guess: (start, residual), nan for no answer, and what was solved
    jacobian,  # Of vectors and what was solved for them: (start, residual, parameter)
    x: np.ndarray,  # (start, parameter) to set out from
    held: np.ndarray | None = None,  # (start, parameter) what does not move
    rule: Damping = Damping(),
    steps: int = 150,  # Most steps
    enough: float = 1e-5,  # Gain over the cost below which a start has arrived
) -> Descent:
    "Least squares from many vectors at once; what was solved has `u` (unknown, problem) and `take(starts, problems)`."
    x, every = np.clip(x, rule.low, rule.high), np.arange(len(x))
    held = np.zeros(x.shape, bool) if held is None else held
    r, found = residuals(x, None)
    u, cost, J = found.u.reshape(len(found.u), len(x), -1), _cost(r), jacobian(x, found)
    damping, asked, a = np.full(len(x), rule.first), np.ones(len(x), int), every[np.isfinite(cost)]
    for _ in range(steps):
        if not len(a):
            break
        here = J[a], r[a]
        system = _system(*here, x[a], held[a], damping[a], rule)
        move = _within(_towards(*system, *here), rule)
        if rule.bend:
            move = _bent(residuals, *here, x[a], rule, system, move, u[:, a].flatten(1))
        trial = np.clip(x[a] + move, rule.low, rule.high)
        r_new, found = residuals(trial, u[:, a].flatten(1))
        gain = cost[a] - _cost(r_new)
        asked[a] += 2 if rule.bend else 1
        good = gain > 0
        b = a[good]
        if len(b):
            part = found.take(np.flatnonzero(good), u.shape[2])
            x[b], r[b], cost[b] = trial[good], r_new[good], cost[b] - gain[good]
            u[:, b], J[b] = part.u.reshape(len(u), len(b), -1), jacobian(x[b], part)
        damping[a] = np.clip(damping[a] * np.where(good, rule.easier, rule.harder), rule.least, None)
        a = a[~(good & (gain < enough * cost[a])) & (damping[a] < rule.most) & (np.abs(move).max(1) > rule.still)]
    return Descent(x, cost, J, asked, ~np.isin(every, a))
