"""The passes over a whole step, each one call into compiled code.

values    maxprod only: best product of every scalar, from the loss down
leaves    best candidates of parameter scalars (all of them)
forward   traffic from the parameters up to the loss; candidates of a scalar are looked at when a trace reaches it
"""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.bits import total_and_largest
from gradtrace.tracer.kernels.candidates import evaluate
from gradtrace.tracer.kernels.compiled import entry, inlined, inner
from gradtrace.tracer.kernels.component_sets import intern
from gradtrace.tracer.kernels.layout import D0, D1, D2, HI, ID_S0, ID_S1, ID_S2, ID_START, ID_TABLE, KIND, LO, PAIRS
from gradtrace.tracer.kernels.offers import TABLE, component_of
from gradtrace.tracer.kernels.state import ENTRIES, LIVE, MASS, PATH, STRONGEST, USED, LeafArrays
from gradtrace.tracer.kernels.views import bare, bare_plan, bare_state
from gradtrace.tracer.kernels.visit import visit

_SPARSE = 8
"""Up to this many scalars of a tensor for each visited one, looking through all of them beats following a list."""
_DENSE = 8
"""Up to this many, all products together cost less than the visited ones one by one."""


@entry
def values(plan, state, t, like):
    """maxprod: fill t (float64 [ids], scaled per tensor by 2**exponent) and each scalar's best candidate, from the loss down."""
    plan, state = bare_plan(plan), bare_state(state)
    for tensor in range(plan.base.shape[0] - 1, -1, -1):
        base, size = plan.base[tensor], plan.size[tensor]
        untracked = tensor < 0  # a literal False would have all of `evaluate` compiled a second time
        reference = evaluate(tensor, untracked, plan, state, like)
        if tensor == plan.loss_tensor:
            state.best[plan.loss] = 1
            state.onward_id[plan.loss] = -1
            reference = np.int64(0)
        state.exponent[tensor] = reference + _scale(state.best, t, base, size)


@inner
def _scale(best, t, base, size):
    top = best[base] * 0
    for v in range(base, base + size):
        top = max(top, best[v])
    shift = np.int64(0)
    if top > 0:
        shift = np.int64(np.floor(np.log2(top)))
    scale = 2.0 ** (-shift)
    for v in range(base, base + size):
        t[v] = best[v] * scale
    return shift


@entry
def leaves(tensors, plan, state, like):
    """greedy: best candidates of all scalars of the listed leaves, with the contests that their traces meet."""
    plan, state = bare_plan(plan), bare_state(state)
    for at in range(tensors.shape[0]):
        tensor = tensors[at]
        evaluate(tensor, plan.track[tensor], plan, state, like)
        if plan.track[tensor]:
            _leaf_contests(tensor, plan, state)


@inner
def _leaf_contests(tensor, plan, state):
    base = plan.base[tensor]
    for v in range(plan.size[tensor]):
        u = state.onward_id[base + v]
        if u >= 0:
            _contest(state.sets[v], u, state.via_use[base + v], 1, plan, state)


@inlined
def _contest(number, u, use, count, plan, state):
    """Count `count` departures to scalar u from a vertex whose candidates lie in the components of set `number`."""
    if number == 0 or state.set_table[2][number] == 0 or count == 0:
        return
    target = plan.targets[use]
    winner = component_of(target, u - plan.base[target], plan)
    entry = intern(number, winner + 1, state.contest_table)
    state.contest_count[entry] += count


@entry
def keep_leaves(addresses, plan, kept, like):
    """Copy the gradients of all leaves to `kept` (by id; 0 where there is none) and let their addresses name the copies.

    What the user does to `.grad` after the step then changes no answer about it.
    """
    for tensor in range(plan.leaves):
        base, size = plan.base[tensor], plan.size[tensor]
        if addresses[tensor] == 0:
            kept[base : base + size] = 0
            continue
        gradient = array_at(addresses[tensor], size, like)
        for v in range(size):
            kept[base + v] = gradient[v]
        addresses[tensor] = kept.ctypes.data + base * like.itemsize


@entry
def forward(plan, state, leaf, known, use_traffic, use_mass, like):
    """Send the traces up. `known` says that every scalar's best candidate is in the state already (maxprod)."""
    plan, state = bare_plan(plan), bare_state(state)
    for tensor in leaf.learnt:
        if known and plan.track[tensor]:
            evaluate(tensor, plan.track[tensor], plan, state, like)
            _leaf_contests(tensor, plan, state)
    _send_leaves(plan, state, leaf, use_traffic, use_mass)
    largest = np.int64(1)
    for tensor in range(plan.base.shape[0]):
        largest = max(largest, plan.size[tensor])
    rank = np.empty(largest, np.int32)
    for tensor in range(plan.leaves, plan.base.shape[0]):
        count = state.filled[tensor]
        if count == 0 or tensor == plan.loss_tensor:
            continue
        base, size = plan.base[tensor], plan.size[tensor]
        where = np.empty(count, np.int64)
        slots = np.empty(count, np.int32)
        in_order = _in_order(tensor, plan)
        if count * _SPARSE >= size:
            _found(base, size, state.slot, where, slots)
        else:
            _listed(state.head[tensor], count, base, state.ident, state.link, where, slots)
            if in_order:
                where.sort()
                for q in range(count):
                    slots[q] = state.slot[base + where[q]]
        best = np.empty(count, like.dtype)
        onward = np.empty(count, np.int32)
        via = np.empty(count, np.int32)
        ready = known and not plan.track[tensor]
        if not ready and in_order and not plan.track[tensor] and count * _DENSE >= size:
            evaluate(tensor, plan.track[tensor], plan, state, like)
            ready = True
        if ready:
            for q in range(count):
                best[q] = state.best[base + where[q]]
                onward[q] = state.onward_id[base + where[q]]
                via[q] = state.via_use[base + where[q]]
        else:
            visit(tensor, where, count, best, onward, via, rank, plan.track[tensor], plan, state, like)
        if plan.track[tensor]:
            for q in range(count):
                if best[q] > 0:
                    _contest(state.sets[q], np.int64(onward[q]), via[q], state.traffic[slots[q]], plan, state)
        _send(
            count, slots, best, onward, via, plan.targets, state.slot, state.ident, state.onward, state.traffic, state.link,
            state.mass, state.head, state.filled, state.counts, use_traffic, use_mass,
        )  # fmt: skip


@inner
def _in_order(tensor, plan):
    """Whether scalars had better come in order: contractions and Jacobian rows prepare a line for those that share it."""
    found = False
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        found = found or plan.uses[plan.use_list[at], KIND] != PAIRS
    return found


@inner
def _found(base, size, slot, where, slots):
    q = 0
    for v in range(size):
        s = slot[base + v]
        if s >= 0:
            where[q] = v
            slots[q] = s
            q += 1


@inner
def _listed(s, count, base, ident, link, where, slots):
    for q in range(count):
        slots[q] = s
        where[q] = ident[s] - base
        s = link[s]


# The two loops below run once for every trace. They are written out: a function that takes arrays would have their references
# counted at every call.


@inner
def _send_leaves(plan, state, leaf, use_traffic, use_mass):
    leaf = LeafArrays(
        bare(leaf.learnt), bare(leaf.gradients), bare(leaf.group_start), bare(leaf.group_count), bare(leaf.group_inner),
        bare(leaf.entry_at), bare(leaf.slot), bare(leaf.traffic), bare(leaf.mass), bare(leaf.bounds), bare(leaf.rows),
        bare(leaf.non_finite),
    )  # fmt: skip
    for at in range(leaf.learnt.shape[0]):
        tensor = leaf.learnt[at]
        base, size = plan.base[tensor], plan.size[tensor]
        row = leaf.rows[at]
        row[LIVE], row[MASS], row[STRONGEST], row[PATH] = 0, 0, -1, -1
        leaf.non_finite[at] = 0
        top = -1.0
        # Of one use, every scalar that goes on goes on by it.
        single = plan.use_start[tensor + 1] - plan.use_start[tensor] == 1
        only = plan.use_list[plan.use_start[tensor]] if single else np.int64(-1)
        span = max(leaf.group_inner[tensor], 1)
        target = plan.targets[max(only, 0)]
        for start in range(0, size, span):
            group = leaf.group_start[tensor] + (start // span) % leaf.group_count[tensor]
            first = state.counts[ENTRIES]
            low, high = base + start, base + min(start + span, size)
            if single and plan.size[target] <= 2 * (high - low):
                live, whole, top, best, bad = _send_leaf_by_one_use(
                    low, high, target, plan.base[target], plan.size[target], leaf.gradients, top, state.largest,
                    state.onward_id, state.slot, state.ident, state.onward, state.traffic, state.link, state.mass, state.head,
                    state.filled, state.counts, leaf.slot, leaf.traffic, leaf.mass,
                )  # fmt: skip
                use_traffic[only] += live
                use_mass[only] += whole
            else:
                live, whole, top, best, bad = _send_leaf(
                    low, high, only, leaf.gradients, top, state.largest, state.onward_id, state.via_use, plan.targets,
                    state.slot, state.ident, state.onward, state.traffic, state.link, state.mass, state.head, state.filled,
                    state.counts, leaf.entry_at, leaf.slot, leaf.traffic, leaf.mass, use_traffic, use_mass,
                )  # fmt: skip
            end = state.counts[ENTRIES]
            for p in range(first, end):
                state.traffic[leaf.slot[p]] += leaf.traffic[p]
                state.mass[leaf.slot[p]] += leaf.mass[p]
            leaf.bounds[group, 0], leaf.bounds[group, 1] = first, end
            row[LIVE] += live
            row[MASS] += whole
            leaf.non_finite[at] += bad
            if best >= 0:
                row[STRONGEST], row[PATH] = best - base, state.slot[state.onward_id[best]]


@inner
def _send_leaf_by_one_use(
    low, high, target, target_base, target_size, gradients, top, largest, onward_id, slot, ident, onward, traffic, link, mass,
    head, filled, counts, entry_slot, entry_traffic, entry_mass,
):  # fmt: skip
    """`_send_leaf` where all traces come to one tensor that is not much larger: first added up in an array as long as that."""
    came, carried = np.zeros(target_size, np.int32), np.zeros(target_size)
    best, bad = np.int64(-1), np.int64(0)
    for v in range(low, high):
        weight = abs(np.float64(gradients[v]))
        if not weight <= largest:
            bad += 1
            weight = 0.0
        u = onward_id[v]
        if u < 0:
            continue
        came[u - target_base] += 1
        carried[u - target_base] += weight
        if weight > top:
            top = weight
            best = np.int64(v)
    used, entries = counts[USED], counts[ENTRIES]
    live, whole = np.int64(0), 0.0
    for at in range(target_size):
        if came[at] == 0:
            continue
        s = slot[target_base + at]
        if s < 0:
            s = np.int32(used)
            used += 1
            slot[target_base + at] = s
            ident[s] = target_base + at
            onward[s] = -1
            traffic[s] = 0
            mass[s] = 0
            link[s] = head[target]
            head[target] = s
            filled[target] += 1
        entry_slot[entries] = s
        entry_traffic[entries] = came[at]
        entry_mass[entries] = carried[at]
        entries += 1
        live += came[at]
        whole += carried[at]
    counts[USED], counts[ENTRIES] = used, entries
    return live, whole, top, best, bad


@inner
def _send_leaf(
    low, high, only, gradients, top, largest, onward_id, via_use, targets, slot, ident, onward, traffic, link, mass, head,
    filled, counts, entry_at, entry_slot, entry_traffic, entry_mass, use_traffic, use_mass,
):  # fmt: skip
    """Send the traces of the scalars low ≤ id < high of a leaf one edge on, added up by the scalar that they come to.

    A scalar that no trace has reached before gets a slot. Each that traces of this block come to gets an entry:
    `entry_slot`, `entry_traffic`, `entry_mass`; `entry_at` (by slot, unset at first) tells which.

    Returns (live traces, their mass, the largest mass so far, id of the scalar that has it or -1, non-finite gradients).
    """
    used, first = counts[USED], counts[ENTRIES]
    entries = first
    live, whole, best, bad = np.int64(0), 0.0, np.int64(-1), np.int64(0)
    last, crossed, carried = only, np.int64(0), 0.0
    for v in range(low, high):
        weight = abs(np.float64(gradients[v]))
        if not weight <= largest:
            bad += 1
            weight = 0.0
        u = onward_id[v]
        if u < 0:
            continue
        s = slot[u]
        if s < 0:
            s = np.int32(used)
            used += 1
            target = targets[only if only >= 0 else np.int64(via_use[v])]
            slot[u] = s
            ident[s] = u
            onward[s] = -1
            traffic[s] = 0
            mass[s] = 0
            link[s] = head[target]
            head[target] = s
            filled[target] += 1
        e = np.int64(entry_at[s])
        if not (first <= e < entries and entry_slot[e] == s):
            e = entries
            entries += 1
            entry_at[s] = e
            entry_slot[e] = s
            entry_traffic[e] = 0
            entry_mass[e] = 0
        entry_traffic[e] += 1
        entry_mass[e] += weight
        live += 1
        whole += weight
        if weight > top:
            top = weight
            best = np.int64(v)
        if only < 0:
            use = np.int64(via_use[v])
            if use != last:
                if last >= 0:
                    use_traffic[last] += crossed
                    use_mass[last] += carried
                last, crossed, carried = use, np.int64(0), 0.0
            crossed += 1
            carried += weight
    if only >= 0:
        crossed, carried = live, whole
    if last >= 0:
        use_traffic[last] += crossed
        use_mass[last] += carried
    counts[USED], counts[ENTRIES] = used, entries
    return live, whole, top, best, bad


@inner
def _send(
    number, slots, best, onward_id, via_use, targets, slot, ident, onward, traffic, link, mass, head, filled, counts,
    use_traffic, use_mass,
):  # fmt: skip
    """The same for visited scalars of an operator, one by one, by their slots."""
    used = counts[USED]
    last, crossed, carried = np.int64(-1), np.int64(0), 0.0
    for q in range(number):
        if not best[q] > 0:
            continue
        u, use, v = onward_id[q], np.int64(via_use[q]), slots[q]
        count, weight = traffic[v], mass[v]
        s = slot[u]
        if s < 0:
            s = np.int32(used)
            used += 1
            target = targets[use]
            slot[u] = s
            ident[s] = u
            onward[s] = -1
            traffic[s] = 0
            mass[s] = 0
            link[s] = head[target]
            head[target] = s
            filled[target] += 1
        onward[v] = s
        traffic[s] += count
        mass[s] += weight
        if use != last:
            if last >= 0:
                use_traffic[last] += crossed
                use_mass[last] += carried
            last, crossed, carried = use, np.int64(0), 0.0
        crossed += count
        carried += weight
    if last >= 0:
        use_traffic[last] += crossed
        use_mass[last] += carried
    counts[USED] = used


@entry
def mark_read(tensor, plan, read):
    """Set read[v] for every scalar of a tensor that some operator reads, whatever its gradient."""
    base, size = plan.base[tensor], plan.size[tensor]
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        r = plan.uses[plan.use_list[at]]
        ids = array_at(r[ID_TABLE], r[D0] * r[D1] * r[D2], TABLE)
        for j in range(r[LO], r[HI]):
            if r[ID_TABLE] == 0:
                rest, i2 = j // r[D2], j % r[D2]
                v = r[ID_START] + (rest // r[D1]) * r[ID_S0] + (rest % r[D1]) * r[ID_S1] + i2 * r[ID_S2] - base
            else:
                v = np.int64(ids[j]) - base
            if 0 <= v < size:
                read[v] = 1


@entry
def all_finite(addresses, plan, like):
    """Whether every gradient is finite."""
    for tensor in range(plan.base.shape[0]):
        if addresses[tensor] != 0:
            total, _ = total_and_largest(array_at(addresses[tensor], plan.size[tensor], like), plan.size[tensor])
            if not total < np.inf:
                return False
    return True


@entry
def element(address, index, like):
    """One element of the array at an address."""
    return array_at(address, index + 1, like)[index]
