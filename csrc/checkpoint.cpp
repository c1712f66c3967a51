#include "checkpoint.h"

#include <algorithm>
#include <cmath>

#include "errors.h"
#include "sha256.h"

namespace unmul {
namespace {

constexpr const char* kEmbeddingTable = "model.embeddings.weight";
constexpr const char* kRepack = ": pack the latent checkpoint again";

std::string prefix(int layer) { return "model.layers." + std::to_string(layer) + "."; }

std::string checksum(std::string_view weights, const std::string& meaning) {
    Sha256 digest;
    digest.update(weights);
    digest.update(meaning);
    return "sha256:" + digest.finish();
}

std::vector<float> finite_values(const Tensor& tensor, const std::string& name) {
    std::vector<float> values(size_t(tensor.shape.front()));
    for (size_t k = 0; k < values.size(); ++k) values[k] = tensor.value(k);
    require(std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }), ErrorCode::kDamaged,
            "tensor " + name + " holds NaN or infinity" + kRepack);
    return values;
}

}  // namespace

Checkpoint::Checkpoint(std::string_view config, std::string_view weights) : config_(parse_config(config)) {
    require(checksum(weights, config_.meaning) == config_.checksum, ErrorCode::kDamaged,
            "the model is damaged (the checksum of model.safetensors and the shape differs): copy it again");
    tensors_ = parse_tensors(weights);
    check_tensors();
}

void Checkpoint::expect(const std::string& name, const char* type, std::vector<int64_t> shape) {
    ++expected_;
    const auto found = tensors_.find(name);
    require(found != tensors_.end() && found->second.type == type && found->second.shape == shape, ErrorCode::kDamaged,
            "tensor " + name + " is missing, or of another type or shape" + kRepack);
}

void Checkpoint::expect_projection(const std::string& name, int rows, int columns) {
    expect(name + ".weight", "U8", {rows, (columns + 4) / 5});
    expect(name + ".weight_scale", "F32", {});
    expect(name + ".norm.weight", "BF16", {columns});
}

void Checkpoint::check_tensors() {
    const auto& [layers, width, mixer, hidden, vocabulary, eps, shared_norm, state_norm] = config_.shape;
    expect(kEmbeddingTable, config_.int8_embeddings ? "I8" : "BF16", {vocabulary, width});
    if (config_.int8_embeddings) expect(std::string(kEmbeddingTable) + "_scale", "F32", {vocabulary});
    expect("model.lower_bounds", "BF16", {layers, mixer});
    for (int layer = 0; layer < layers; ++layer) {
        for (const char* name : {"attn_norm.weight", "mlp_norm.weight"}) expect(prefix(layer) + name, "BF16", {width});
        expect(prefix(layer) + "attn.g_norm.weight", "BF16", {mixer});
        for (const char* name : {"attn.i_proj", "attn.f_proj", "attn.g_proj"})
            expect_projection(prefix(layer) + name, mixer, width);
        expect_projection(prefix(layer) + "attn.o_proj", width, mixer);
        expect_projection(prefix(layer) + "mlp.gate_proj", 2 * hidden, width);
        expect_projection(prefix(layer) + "mlp.down_proj", width, hidden);
    }
    expect("model.norm.weight", "BF16", {width});
    expect_projection("lm_head", vocabulary, width);
    require(tensors_.size() == expected_, ErrorCode::kDamaged, std::string("model.safetensors has unknown tensors") + kRepack);
}

std::unique_ptr<Model> Checkpoint::load(const Kernels& kernels, int threads) const {
    auto model = std::make_unique<Model>(config_.shape, kernels, threads);
    const int layers = config_.shape.layers;
    for (int layer = 0; layer < layers; ++layer) load_layer(*model, layer);
    load_bounds(*model);
    load_vector(*model, layers, "norm", "model.norm.weight");
    load_projection(*model, layers, "head", "lm_head", 0);
    return model;
}

void Checkpoint::load_layer(Model& model, int layer) const {
    for (const char* name : {"i", "f", "g", "o"})
        load_projection(model, layer, name, prefix(layer) + "attn." + name + "_proj", 0);
    load_projection(model, layer, "gate", prefix(layer) + "mlp.gate_proj", 0);
    load_projection(model, layer, "up", prefix(layer) + "mlp.gate_proj", config_.shape.hidden);
    load_projection(model, layer, "down", prefix(layer) + "mlp.down_proj", 0);
    load_vector(model, layer, "attn_norm", prefix(layer) + "attn_norm.weight");
    load_vector(model, layer, "g_norm", prefix(layer) + "attn.g_norm.weight");
    load_vector(model, layer, "mlp_norm", prefix(layer) + "mlp_norm.weight");
}

void Checkpoint::load_projection(Model& model, int layer, const char* to, const std::string& name, int first_row) const {
    const Tensor& codes = tensor(name + ".weight");
    Projection& projection = model.projection(layer, to);
    projection.weight.scale = tensor(name + ".weight_scale").value(0);
    require(projection.weight.scale > 0 && std::isfinite(projection.weight.scale), ErrorCode::kDamaged,
            "the scale of " + name + " is no positive number" + kRepack);
    require(fill_from_trits(projection.weight, codes.data + size_t(first_row) * codes.shape[1], model.pool()),
            ErrorCode::kDamaged, "a byte of " + name + " is not five ternary digits" + kRepack);
    load_vector(model, layer, to, name + ".norm.weight");
}

void Checkpoint::load_vector(Model& model, int layer, const char* to, const std::string& name) const {
    const std::vector<float> values = finite_values(tensor(name), name);
    model.set_vector(layer, to, values.data(), values.size());
}

// The share of the softmax over layers that lies below each layer. In float64 and rounded once, as the NumPy twin has it.
void Checkpoint::load_bounds(Model& model) const {
    const int layers = config_.shape.layers, mixer = config_.shape.mixer;
    const Tensor& table = tensor("model.lower_bounds");
    std::vector<float> bounds(size_t(layers) * mixer);
    for (int column = 0; config_.use_lower_bound && column < mixer; ++column) {
        const auto value = [&](int layer) { return double(table.value(size_t(layer) * mixer + column)); };
        std::vector<double> shares(layers);
        double largest = value(0), total = 0, sum = 0;
        for (int layer = 1; layer < layers; ++layer) largest = std::max(largest, value(layer));
        for (int layer = 0; layer < layers; ++layer) total += shares[layer] = std::exp(value(layer) - largest);
        for (int layer = 0; layer < layers; ++layer) {
            sum += shares[layer] / total;
            bounds[size_t(layer) * mixer + column] = float(sum - shares[0] / total);
        }
    }
    for (int layer = 0; layer < layers; ++layer)
        model.set_vector(layer, "bound", bounds.data() + size_t(layer) * mixer, size_t(mixer));
}

void Checkpoint::embed(const int32_t* ids, size_t count, float* x) const {
    const Tensor& table = tensor(kEmbeddingTable);
    const size_t width = size_t(config_.shape.width);
    for (size_t t = 0; t < count; ++t, x += width) {
        const size_t row = size_t(ids[t]) * width;
        if (!config_.int8_embeddings) {
            for (size_t k = 0; k < width; ++k) x[k] = table.value(row + k);
            continue;
        }
        const float scale = tensor(std::string(kEmbeddingTable) + "_scale").value(size_t(ids[t]));
        for (size_t k = 0; k < width; ++k) x[k] = float(static_cast<int8_t>(table.data[row + k])) * scale;
    }
}

}  // namespace unmul
