/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as OCDBT and zarr use it. */
#ifndef TP_CODEC_CRC32C_H
#define TP_CODEC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of some bytes, given that of all bytes before them (0 at the start): it can be had piece by piece. */
uint32_t tp_crc32c(uint32_t crc, const void *bytes, size_t len);

#endif
