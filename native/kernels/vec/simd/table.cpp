#include "kernels/vec/simd/functions.hpp"

#define MXPIPE_TEXT_(name) #name
#define MXPIPE_TEXT(name) MXPIPE_TEXT_(name)

namespace mxpipe::MXPIPE_ISA {

extern const IsaTable table;
const IsaTable table = {
    .name = MXPIPE_TEXT(MXPIPE_ISA),
    .operation = operation,
    .pair = pair,
    .convert = convert,
    .round_to = round_to,
    .load = load_function,
    .store = store_function,
    .stream = stream,
    .random_uniform = random_uniform,
    .random_normal = random_normal,
    .reduce = reduce_functions,
    .batch_norm = batch_norm_functions,
    .layer_norm = layer_norm_functions,
    .softmax = softmax_functions,
    .rows = make_row_functions<float>(),
    .double_rows = make_row_functions<double>(),
    .recurrent = make_recurrent_functions<float>(),
    .double_recurrent = make_recurrent_functions<double>(),
    .csr = make_csr_functions<float>(),
    .double_csr = make_csr_functions<double>(),
    .attention = make_attention_functions(),
};

}  // namespace mxpipe::MXPIPE_ISA
