/* SPDX-License-Identifier: MIT */
/* The rows: each scheme's own file defines its. */
#ifndef TP_QUANT_SCHEMES_H
#define TP_QUANT_SCHEMES_H

#include "quant/decode.h"

extern const struct tp_scheme tp_scheme_mxfp4, tp_scheme_mxfp6, tp_scheme_mxfp8, tp_scheme_nvfp4; /* mx.c, nvfp4.c */
extern const struct tp_scheme tp_scheme_fp8, tp_scheme_int8, tp_scheme_bnb_int8;                  /* scaled.c */
extern const struct tp_scheme tp_scheme_pack_quantized, tp_scheme_gptq, tp_scheme_awq; /* packed.c, gptq.c, awq.c */
extern const struct tp_scheme tp_scheme_int4;                                          /* int4.c */
extern const struct tp_scheme tp_scheme_bnb_nf4, tp_scheme_bnb_fp4;                    /* bnb.c */

#endif
