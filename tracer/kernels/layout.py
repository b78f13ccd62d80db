"""Columns of a *use* record: one operator edge, as the compiled code reads it.

A use says how the scalars of one operand slot of one operator reach that operator's output scalars. Records are rows
of one int64 array, so that a whole step is one call into compiled code. Scalars have *global ids*: tensor `t` owns
`base[t] .. base[t] + size[t]`, leaves first, then operator outputs in forward order.

A map from a position j (or a triple (i0, i1, i2)) to an id is either strided over three collapsed dimensions or a table.
"""

KIND = 0
PAIRS, MM, SOFTMAX, LOG_SOFTMAX, NORM = 0, 1, 2, 3, 4

OP = 1  # operator number: ties between slots of one operator go to the lower output index
TARGET = 2  # tensor id of the operator's output

# source ids: (i0, i1, i2) -> global id; TABLE is 0 or the address of an int32 table over the flattened triple
D0, D1, D2 = 3, 4, 5
ID_TABLE = 6
ID_START, ID_S0, ID_S1, ID_S2 = 7, 8, 9, 10

# PAIRS: position -> output index
OUT_TABLE = 11
OUT_START, OUT_S0, OUT_S1, OUT_S2 = 12, 13, 14, 15
VALUES = 16  # pointer slot of the operand's own gradient (the value of each candidate), or -1
WEIGHTS = 17  # pointer slot of the weights, or -1: the constant of this use

# MM: max over k of |A[i0,k,i1]| * |B[i0,k,i2]|, u = i0*U0 + i1*U1 + i2*U2 + k*UK
K = 18
A, A_S0, A_SK, A_SM = 19, 20, 21, 22  # A = -1: the operator's gradient
B, B_S0, B_SK, B_SN = 23, 24, 25, 26
U0, U1, U2, UK = 27, 28, 29, 30

# SOFTMAX, LOG_SOFTMAX: ROW = pointer slot of the result, rows along D1.
# NORM: D2 is 1; ROW = pointer slot of the normalised input, row by row; output i of row i0 is i0*U0 + (i // K)*U1 + (i % K)*U2.
ROW = 31
ROW_SCALE = 32  # NORM: pointer slot of 1/std (times the row's gain) per row
ROW_WEIGHT = 33  # NORM: pointer slot of gains [WEIGHT_ROWS, D1], of which row i0 has row i0 % WEIGHT_ROWS, or -1
WEIGHT_ROWS = A_S0

LO, HI = 34, 35  # positions j in [LO, HI) can belong to the source tensor
WIDTH = 36
