/* A packed model goes on with a text: what a program needs of unmul.h.
 *
 *     cmake -S . -B build/c -DCMAKE_BUILD_TYPE=Release && cmake --build build/c
 *     cc examples/c/generate.c -Icsrc -Lbuild/c -lunmul -Wl,-rpath,$PWD/build/c -o generate
 *     ./generate src/unmul/assets/open-english "Once upon a time" 40
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unmul.h"

static void need(unmul_status status) {
    if (status == UNMUL_OK) return;
    fprintf(stderr, "error: %s\n", unmul_last_error());
    exit(2);
}

static void *memory(size_t count, size_t size) {
    void *zeros = calloc(count, size);
    if (zeros) return zeros;
    fprintf(stderr, "error: not enough memory\n");
    exit(2);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s FOLDER PROMPT TOKENS\n", argv[0]);
        return 2;
    }
    unmul_model *model;
    unmul_tokenizer *tokenizer;
    unmul_sampler *sampler;
    need(unmul_model_open(argv[1], 0, &model));
    need(unmul_tokenizer_open(argv[1], &tokenizer));
    need(unmul_sampler_new(0, 0, 1, 0, &sampler)); /* greedy */

    const unmul_model_info info = unmul_model_get_info(model);
    float *state = memory(info.state_values, sizeof *state);
    float *logits = memory((size_t)info.vocabulary, sizeof *logits);

    /* The prompt: the token that every text begins after, then the words. */
    int32_t *tokens = memory(strlen(argv[2]) + 1, sizeof *tokens);
    size_t count, begins = info.begin_token >= 0;
    tokens[0] = info.begin_token;
    need(unmul_encode(tokenizer, argv[2], strlen(argv[2]), tokens + begins, strlen(argv[2]), &count));
    need(unmul_forward(model, state, tokens, count + begins, logits, 1));

    for (int left = atoi(argv[3]); left > 0; --left) {
        int32_t token;
        const char *bytes;
        size_t size;
        need(unmul_sample(sampler, logits, (size_t)info.vocabulary, &token));
        if (token == info.end_token) break;
        need(unmul_token_bytes(tokenizer, token, &bytes, &size));
        fwrite(bytes, 1, size, stdout);
        fflush(stdout);
        need(unmul_forward(model, state, &token, 1, logits, 1));
    }
    putchar('\n');

    free(tokens);
    free(logits);
    free(state);
    unmul_sampler_free(sampler);
    unmul_tokenizer_free(tokenizer);
    unmul_model_free(model);
    return 0;
}
