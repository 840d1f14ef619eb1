/* SPDX-License-Identifier: MIT */
#include "checkpoint/sniff.h"

#include <string.h>

#define DOWNLOAD_HINT "download it again"
#define PICKLE_HINT "it can run code when it is loaded and is not read; convert it to safetensors with its own program"

static const struct magic {
    const char *bytes;
    size_t len;
    bool any_case; /* and after blanks */
    struct tp_sniff sniff;
} magics[] = {
    {"version https://git-lfs", 23, false, {"a Git LFS pointer, not the file itself", "run: git lfs pull"}},
    {"# xet version", 13, false, {"a Xet pointer, not the file itself", "download it with a client that knows Xet"}},
    {"<!doctype", 9, true, {"an HTML page, probably a download's error message", DOWNLOAD_HINT}},
    {"<html", 5, true, {"an HTML page, probably a download's error message", DOWNLOAD_HINT}},
    {"<?xml", 5, true, {"an XML document, probably a download's error message", DOWNLOAD_HINT}},
    {"PK\3\4", 4, false, {"a ZIP archive, as PyTorch's .bin and .pt files are", PICKLE_HINT}},
    {"\x80\2", 2, false, {"a Python pickle, as old PyTorch files are", PICKLE_HINT}},
    {"\x80\3", 2, false, {"a Python pickle", PICKLE_HINT}},
    {"\x80\4", 2, false, {"a Python pickle", PICKLE_HINT}},
    {"\x80\5", 2, false, {"a Python pickle", PICKLE_HINT}},
    {"GGUF", 4, false, {"a GGUF file", "take the model's safetensors files; GGUF is not read"}},
    {"\x1f\x8b", 2, false, {"gzip-compressed", "decompress it first"}},
    {"\x28\xb5\x2f\xfd", 4, false, {"compressed with zstd", "decompress it first"}},
    {"\x89HDF", 4, false, {"an HDF5 file, as Keras and TensorFlow write", "take the model's safetensors files"}},
    {"\x93NUMPY", 6, false, {"a NumPy file", "take the model's safetensors files"}},
    {"{", 1, false, {"text, perhaps JSON, without the eight bytes of length that a safetensors file begins with", ""}},
};

static const struct tp_sniff zeros = {"all zeros where the header should be, as an unfinished download is",
                                      DOWNLOAD_HINT};

static unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c - 'A' + 'a') : c;
}

static bool begins(const unsigned char *head, size_t len, const struct magic *m)
{
    while (m->any_case && len > 0 && (*head == ' ' || *head == '\n' || *head == '\r' || *head == '\t')) {
        head++;
        len--;
    }
    if (len < m->len)
        return false;
    for (size_t i = 0; i < m->len; i++)
        if ((m->any_case ? lower(head[i]) : head[i]) != (unsigned char)m->bytes[i])
            return false;
    return true;
}

const struct tp_sniff *tp_sniff(const unsigned char *head, size_t len)
{
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
        if (begins(head, len, &magics[i]))
            return &magics[i].sniff;
    size_t zero_count = 0;
    while (zero_count < len && head[zero_count] == 0)
        zero_count++;
    return len > 8 && zero_count == len ? &zeros : NULL;
}

bool tp_sniff_is_lfs(const struct tp_sniff *sniff)
{
    return sniff == &magics[0].sniff;
}
