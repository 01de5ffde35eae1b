/* Every kernel once, as plain loops that the compiler vectorises for the region this text is
 * included in. The includer has included kernels.h and scalar.h, defines FF_TABLE, the table's
 * name, and may define FF_ENCODE_F32_FP16, a function that makes that conversion in the CPU's direction
 * (see turn_to), all else by the default rules, for as many values as it likes and returns how many. */

/* Elements worked on at a time where a step needs a buffer or a retry, quantising and converting. */
enum { FF_BLOCK = 256, FF_CHUNK = 512 };

#include "stream.h"
#include "convert.inc.h"
#include "quantize.inc.h"
#include "elements.inc.h"

/* --- the table --------------------------------------------------------------------------------- */

const struct ff_kernels FF_TABLE = {
    .decompose = decompose,
    .compose = compose,
    .encode = {encode_f64, encode_f32, encode_f16, encode_bf16},
    .decode = {decode_f64, decode_f32},
    .round_to = {round_to_f64, round_to_f32},
    .pack = pack,
    .unpack = unpack,
    .amax = {amax_f64, amax_f32, amax_f16, amax_bf16},
    .minmax = {minmax_f64, minmax_f32, minmax_f16, minmax_bf16},
    .absmax_scale = absmax_scale,
    .power_scale = power_scale,
    .zeropoint_parameters = zeropoint_parameters,
    .quantize = {quantize_f64, quantize_f32, quantize_f16, quantize_bf16},
    .quantize_absmax = {quantize_absmax_f64, quantize_absmax_f32, quantize_absmax_f16,
                        quantize_absmax_bf16},
    .quantize_range = {quantize_range_f64, quantize_range_f32, quantize_range_f16,
                       quantize_range_bf16},
    .quantize_intervals_absmax = {quantize_intervals_absmax_f64, quantize_intervals_absmax_f32,
                                  quantize_intervals_absmax_f16, quantize_intervals_absmax_bf16},
    .quantize_intervals = {quantize_intervals_f64, quantize_intervals_f32, quantize_intervals_f16,
                           quantize_intervals_bf16},
    .quantize_format_absmax = {quantize_format_absmax_f64, quantize_format_absmax_f32,
                               quantize_format_absmax_f16, quantize_format_absmax_bf16},
    .quantize_format = {quantize_format_f64, quantize_format_f32, quantize_format_f16,
                        quantize_format_bf16},
    .dequantize = {dequantize_f64, dequantize_f32, dequantize_f16, dequantize_bf16},
    .int8_widen = int8_widen,
    .int8_product = int8_product,
    .dequantize_sums = dequantize_sums,
    .dequantize_table = {dequantize_table_f64, dequantize_table_f32, dequantize_table_f16,
                         dequantize_table_bf16},
    .dequantize_packed = {dequantize_packed_f64, dequantize_packed_f32, dequantize_packed_f16,
                          dequantize_packed_bf16},
};
