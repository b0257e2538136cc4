"""Sixteen problems as one number in compiled code: the processor's vectors

`row` of a strip (row, WIDTH) is such a number, `put` writes one, `spread` makes one of a scalar; + - * / do the rest.
In plain Python they are rows of the array. Of loops over sixteen problems the compiler does not know whether their
arrays overlap, and asks at every turn; here the width is known and nothing is asked. A processor with narrower vectors
takes several for one."""

import operator

from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, ConcreteTemplate, infer_global, signature

WIDTH = 16
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_EMPTY, _FIRST = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)


class _Lanes(types.Type):
    "The type of such a number."

    def __init__(self):
        super().__init__("Lanes")


LANES = _Lanes()


@register_default(_Lanes)
class _Vector(PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


def row(x, i):
    "Row i of a strip (row, WIDTH)."
    return x[i].copy()


def put(x, i, value):
    "Write row i of a strip."
    x[i] = value


def spread(value):
    "The same scalar for every problem."
    return value


def _shuffled(builder, value):
    one = builder.insert_element(_EMPTY, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, _EMPTY, _FIRST)


def _arithmetic(op, instruction: str):
    "An operator between such numbers, or with a scalar."

    class Cases(ConcreteTemplate):
        key = op
        cases = [signature(LANES, *pair) for pair in ((LANES, LANES), (types.float64, LANES), (LANES, types.float64))]

    def lower(context, builder, sig, args):
        both = (v if t is LANES else _shuffled(builder, v) for t, v in zip(sig.args, args, strict=True))
        return getattr(builder, instruction)(*both)

    infer_global(op)(Cases)
    for case in Cases.cases:
        lower_builtin(op, *case.args)(lower)


for _op, _instruction in {
    "add": "fadd", "sub": "fsub", "mul": "fmul", "truediv": "fdiv", "iadd": "fadd", "isub": "fsub"
}.items():  # fmt: skip
    _arithmetic(getattr(operator, _op), _instruction)


def _address(context, builder, kind, x, i):
    "Where row i of a strip lies."
    array = context.make_array(kind)(context, builder, x)
    start = builder.mul(i, context.get_constant(types.intp, WIDTH))
    return builder.bitcast(builder.gep(array.data, [start]), _VECTOR.as_pointer())


@infer_global(row)
class _Row(AbstractTemplate):
    def generic(self, args, kws):
        return signature(LANES, args[0], types.intp)


@lower_builtin(row, types.Array, types.intp)
def _lower_row(context, builder, sig, args):
    found = builder.load(_address(context, builder, sig.args[0], *args))
    found.align = 8
    return found


@infer_global(put)
class _Put(AbstractTemplate):
    def generic(self, args, kws):
        return signature(types.void, args[0], types.intp, LANES)


@lower_builtin(put, types.Array, types.intp, LANES)
def _lower_put(context, builder, sig, args):
    builder.store(args[2], _address(context, builder, sig.args[0], *args[:2])).align = 8
    return context.get_dummy_value()


@infer_global(spread)
class _Spread(ConcreteTemplate):
    key = spread
    cases = [signature(LANES, types.float64)]


@lower_builtin(spread, types.float64)
def _lower_spread(context, builder, sig, args):
    return _shuffled(builder, args[0])
