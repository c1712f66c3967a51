#include "unmul.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "bpe.h"
#include "checkpoint.h"
#include "errors.h"
#include "kernels/kernels.h"
#include "mapped_file.h"
#include "sampler.h"

using namespace unmul;

namespace {

constexpr size_t kChunk = 128;  // tokens read at once, as engine/cpu.py has it
constexpr int kMostThreads = 1024;
constexpr size_t kWeightsAThread = size_t(1) << 20;  // of a layer: with fewer, threads wait for each other

std::string& last_error() {
    thread_local std::string message;
    return message;
}

[[maybe_unused]] unmul_status failed(int code, const char* message) {
    last_error() = message;
    return unmul_status(code);
}

// Runs one call; what it throws becomes a status. Without exceptions, errors leave through the host instead.
template <class Function>
unmul_status guarded(Function call) {
#if defined(__cpp_exceptions)
    try {
        call();
    } catch (const Error& error) {
        return failed(int(error.code), error.what());
    } catch (const std::bad_alloc&) {
        return failed(UNMUL_NO_MEMORY, "not enough memory");
    } catch (const std::exception& error) {
        return failed(UNMUL_INTERNAL, error.what());
    }
#else
    call();
#endif
    return UNMUL_OK;
}

void check(bool condition, const char* message) { require(condition, ErrorCode::kBadArgument, message); }

std::string in_folder(const char* folder, const char* name) {
    check(folder, "the folder is NULL");
    return std::string(folder) + "/" + name;
}

const Kernels& chosen_kernels() {
    const char* forced = std::getenv("UNMUL_ISA");
    if (!forced || !*forced) return *usable_kernels().back();
    const Kernels* kernels = find_kernels(forced);
    check(kernels, "UNMUL_ISA names an instruction set that cannot run here: unset it");
    return *kernels;
}

int chosen_threads(int threads, const Shape& shape) {
    check(threads >= 0 && threads <= kMostThreads, "threads must be 0 (chosen) to 1024");
    if (threads > 0) return threads;
    const size_t layer = size_t(shape.width) * (4 * size_t(shape.mixer) + 3 * size_t(shape.hidden));
    return int(std::clamp<size_t>(layer / kWeightsAThread, 1, size_t(Pool::most_threads())));
}

}  // namespace

struct unmul_model {
    unmul_model(std::string_view config, std::string_view weights, int threads)
        : checkpoint(config, weights),
          threads(chosen_threads(threads, checkpoint.config().shape)),
          model(checkpoint.load(chosen_kernels(), this->threads)) {
        probe();
    }

    // A few tokens from an empty state: NaN in the weights' products would otherwise be seen by the user.
    void probe() {
        const Shape& shape = checkpoint.config().shape;
        std::vector<float> state(size_t(shape.layers) * shape.mixer), logits(size_t(shape.vocabulary));
        const int32_t ends[] = {0, shape.vocabulary - 1};
        forward(state.data(), ends, 2, logits.data(), 1);
        require(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }), ErrorCode::kDamaged,
                "self-test: the logits are not finite");
    }

    void forward(float* state, const int32_t* tokens, size_t count, float* logits, size_t rows) {
        const Shape& shape = checkpoint.config().shape;
        const Turn turn(mutex);
        for (size_t start = 0; start < count; start += kChunk) {
            const size_t size = std::min(kChunk, count - start), behind = count - start - size;
            const size_t wanted = rows > behind ? std::min(size, rows - behind) : 0;
            embeddings.resize(size * size_t(shape.width));
            checkpoint.embed(tokens + start, size, embeddings.data());
            model->forward(embeddings.data(), int(size), {state}, logits, int(wanted));
            logits += wanted * size_t(shape.vocabulary);
        }
    }

    std::unique_ptr<MappedFile> file;  // where the weights came from one
    Checkpoint checkpoint;
    int threads;
    std::unique_ptr<Model> model;
    std::vector<float> embeddings;  // of one chunk
    Mutex mutex;
};

struct unmul_tokenizer {
    Tokenizer tokenizer;
};

struct unmul_sampler {
    SamplingRule rule;
    SplitMix64 random;
};

const char* unmul_last_error(void) { return last_error().c_str(); }

unmul_status unmul_model_open_memory(const char* config, size_t config_size, const void* weights, size_t weights_size,
                                     int threads, unmul_model** model) {
    return guarded([&] {
        check(config && weights && model, "a pointer is NULL");
        *model = new unmul_model({config, config_size}, {static_cast<const char*>(weights), weights_size}, threads);
    });
}

unmul_status unmul_model_open(const char* folder, int threads, unmul_model** model) {
    return guarded([&] {
        check(model, "a pointer is NULL");
        const MappedFile config(in_folder(folder, "config.json"));
        auto weights = std::make_unique<MappedFile>(in_folder(folder, "model.safetensors"));
        *model = new unmul_model(config.bytes(), weights->bytes(), threads);
        weights->release_pages();
        (*model)->file = std::move(weights);
    });
}

void unmul_model_free(unmul_model* model) { delete model; }

unmul_model_info unmul_model_get_info(const unmul_model* model) {
    const Config& config = model->checkpoint.config();
    const Shape& shape = config.shape;
    return {shape.layers, shape.width, shape.vocabulary, config.begin, config.end, model->threads,
            model->model->weight_bytes(), size_t(shape.layers) * size_t(shape.mixer), model->model->kernels().name};
}

unmul_status unmul_forward(unmul_model* model, float* state, const int32_t* tokens, size_t count, float* logits,
                           size_t rows) {
    return guarded([&] {
        check(model && state && tokens && (logits || rows == 0), "a pointer is NULL");
        check(count >= 1 && rows <= count, "give at least one token, and no more rows than tokens");
        const int vocabulary = model->checkpoint.config().shape.vocabulary;
        check(std::all_of(tokens, tokens + count, [&](int32_t id) { return id >= 0 && id < vocabulary; }),
              "a token id is not in the model");
        model->forward(state, tokens, count, logits, rows);
    });
}

unmul_status unmul_sampler_new(double temperature, int32_t top_k, double top_p, uint64_t seed, unmul_sampler** sampler) {
    return guarded([&] {
        check(sampler, "a pointer is NULL");
        check(temperature >= 0 && std::isfinite(temperature), "temperature must be 0 (greedy) or more");
        check(top_k >= 0, "top_k must be 0 (all tokens) or a count of tokens");
        check(top_p > 0 && top_p <= 1, "top_p must be more than 0 and at most 1");
        *sampler = new unmul_sampler{{temperature, top_k, top_p}, SplitMix64(seed)};
    });
}

void unmul_sampler_free(unmul_sampler* sampler) { delete sampler; }

unmul_status unmul_sample(unmul_sampler* sampler, const float* logits, size_t vocabulary, int32_t* token) {
    return guarded([&] {
        check(sampler && logits && vocabulary > 0 && token, "a pointer is NULL, or there are no logits");
        const double uniform = sampler->rule.temperature == 0 ? 0 : sampler->random.uniform();
        const int chosen = sample(logits, vocabulary, sampler->rule, uniform);
        check(chosen >= 0, "the logits hold NaN or infinity: the weights or the state are damaged");
        *token = chosen;
    });
}

unmul_status unmul_tokenizer_open_memory(const char* json, size_t size, unmul_tokenizer** tokenizer) {
    return guarded([&] {
        check(json && tokenizer, "a pointer is NULL");
        *tokenizer = new unmul_tokenizer{Tokenizer({json, size})};
    });
}

unmul_status unmul_tokenizer_open(const char* folder, unmul_tokenizer** tokenizer) {
    return guarded([&] {
        check(tokenizer, "a pointer is NULL");
        const MappedFile json(in_folder(folder, "tokenizer.json"));
        *tokenizer = new unmul_tokenizer{Tokenizer(json.bytes())};
    });
}

void unmul_tokenizer_free(unmul_tokenizer* tokenizer) { delete tokenizer; }

unmul_status unmul_encode(const unmul_tokenizer* tokenizer, const char* text, size_t size, int32_t* tokens, size_t capacity,
                          size_t* count) {
    return guarded([&] {
        check(tokenizer && (text || size == 0) && (tokens || capacity == 0) && count, "a pointer is NULL");
        const std::vector<int32_t> ids = tokenizer->tokenizer.encode({text, size});
        std::copy_n(ids.begin(), std::min(capacity, ids.size()), tokens);
        *count = ids.size();
    });
}

unmul_status unmul_token_bytes(const unmul_tokenizer* tokenizer, int32_t token, const char** bytes, size_t* size) {
    return guarded([&] {
        check(tokenizer && bytes && size, "a pointer is NULL");
        const std::string_view found = tokenizer->tokenizer.bytes(token);
        *bytes = found.data();
        *size = found.size();
    });
}
