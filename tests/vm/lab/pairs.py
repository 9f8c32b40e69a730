# SPDX-License-Identifier: MIT
"""Few rows of values in which every two values of two factors meet."""
import itertools


def pairs_of(row):
    """The pairs of a row that is not complete yet: {factor: value}."""
    return set(itertools.combinations(sorted(row.items()), 2))


def all_pairs(factors):
    return {pair for two in itertools.combinations(sorted(factors), 2)
            for pair in itertools.product(*([(name, value) for value in factors[name]]
                                            for name in two))}


def pairwise(factors):
    """Rows, greedily: each begins with a pair that is missing, then takes what brings most."""
    missing, rows = all_pairs(factors), []
    while missing:
        row = dict(min(missing, key=repr))
        for name in sorted(factors.keys() - row.keys()):
            row[name] = max(factors[name],
                            key=lambda v: len(pairs_of({**row, name: v}) & missing))
        missing -= pairs_of(row)
        rows.append(row)
    return rows


def product(factors):
    """Every row there is."""
    names = sorted(factors)
    return [dict(zip(names, values)) for values in itertools.product(*(factors[n] for n in names))]
