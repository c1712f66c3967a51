/* unmul in C: a packed model read, text to tokens, logits, tokens to text. Everything runs in the calling process and
 * without Python. `examples/c/generate.c` is a whole program.
 *
 * Functions that can fail return a status; unmul_last_error() then says what was wrong and what helps, for the calling
 * thread. What a function gives through a pointer is set on UNMUL_OK only. Strings are UTF-8 of a given length and need no
 * zero at their end; paths end in zero.
 *
 * Threads: calls on one model from several threads take turns. A state or sampler belongs to one thread at a time.
 */
#ifndef UNMUL_H
#define UNMUL_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(UNMUL_BUILDING)
#define UNMUL_API __declspec(dllexport)
#elif defined(_WIN32)
#define UNMUL_API __declspec(dllimport)
#else
#define UNMUL_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    UNMUL_OK = 0,
    UNMUL_BAD_ARGUMENT = 1, /* a number or text that cannot be used */
    UNMUL_CANNOT_READ = 2,  /* a file is not there, or may not be read */
    UNMUL_DAMAGED = 3,      /* a file is not what packing wrote: checksum, shape, NaN */
    UNMUL_UNSUPPORTED = 4,  /* not packed, another format version, another kind of tokenizer */
    UNMUL_NO_MEMORY = 5,
    UNMUL_INTERNAL = 6, /* please report it */
} unmul_status;

typedef struct unmul_model unmul_model;
typedef struct unmul_tokenizer unmul_tokenizer;
typedef struct unmul_sampler unmul_sampler;

typedef struct {
    int32_t layers, width, vocabulary;
    int32_t begin_token, end_token; /* -1 where the model has none */
    int32_t threads;
    uint64_t weight_bytes; /* of ternary weights in memory, read once a token */
    size_t state_values;   /* floats that carry all context: layers * the width of the token mixer */
    const char* kernels;   /* the instruction set in use: "avx2", "neon_dotprod", ... */
} unmul_model_info;

/* What the last failing call of this thread found; valid until its next failing call. */
UNMUL_API const char* unmul_last_error(void);

/* Opens the folder that `unmul pack` wrote; its files are read through the memory of the system and must stay unchanged
 * until unmul_model_free. threads 0 chooses. The environment variable UNMUL_ISA forces an instruction set. */
UNMUL_API unmul_status unmul_model_open(const char* folder, int threads, unmul_model** model);

/* The same from the contents of config.json and model.safetensors; the weights must stay in place until
 * unmul_model_free. */
UNMUL_API unmul_status unmul_model_open_memory(const char* config, size_t config_size, const void* weights,
                                               size_t weights_size, int threads, unmul_model** model);

UNMUL_API void unmul_model_free(unmul_model* model);
UNMUL_API unmul_model_info unmul_model_get_info(const unmul_model* model);

/* Reads `count` >= 1 tokens. `state` is the caller's: info.state_values floats, zeros before the first token, which are
 * advanced in place; copy them to keep a conversation. logits receives [rows, vocabulary], those after each of the last
 * `rows` tokens; 0 <= rows <= count. Any split of a text into calls gives the same bits. */
UNMUL_API unmul_status unmul_forward(unmul_model* model, float* state, const int32_t* tokens, size_t count, float* logits,
                                     size_t rows);

/* Temperature 0 is greedy, top_k 0 keeps all, top_p 1 keeps all. Equal seeds draw equal tokens, as in Python. */
UNMUL_API unmul_status unmul_sampler_new(double temperature, int32_t top_k, double top_p, uint64_t seed,
                                         unmul_sampler** sampler);
UNMUL_API void unmul_sampler_free(unmul_sampler* sampler);

/* The next token from logits [vocabulary]. */
UNMUL_API unmul_status unmul_sample(unmul_sampler* sampler, const float* logits, size_t vocabulary, int32_t* token);

/* Opens tokenizer.json of a folder; byte-level BPE only. */
UNMUL_API unmul_status unmul_tokenizer_open(const char* folder, unmul_tokenizer** tokenizer);
UNMUL_API unmul_status unmul_tokenizer_open_memory(const char* json, size_t size, unmul_tokenizer** tokenizer);
UNMUL_API void unmul_tokenizer_free(unmul_tokenizer* tokenizer);

/* Tokens of a text, without begin_token. *count receives how many there are; the first `capacity` of them are written, so
 * that a call with capacity 0 measures. There are never more tokens than bytes. */
UNMUL_API unmul_status unmul_encode(const unmul_tokenizer* tokenizer, const char* text, size_t size, int32_t* tokens,
                                    size_t capacity, size_t* count);

/* The bytes of one token, perhaps a part of a character; none for a special token. Valid until unmul_tokenizer_free. */
UNMUL_API unmul_status unmul_token_bytes(const unmul_tokenizer* tokenizer, int32_t token, const char** bytes, size_t* size);

#ifdef __cplusplus
}
#endif

#endif
