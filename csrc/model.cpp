#include "model.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "errors.h"
#include "pass.h"

namespace unmul {
namespace {

constexpr Projection Layer::*kProjections[] = {&Layer::i,    &Layer::f,  &Layer::g,   &Layer::o,
                                               &Layer::gate, &Layer::up, &Layer::down};
constexpr const char* kProjectionNames[] = {"i", "f", "g", "o", "gate", "up", "down"};
constexpr struct {
    const char* name;
    float* Layer::*values;
    int Shape::*size;
} kVectors[] = {{"attn_norm", &Layer::attn_norm, &Shape::width},
                {"g_norm", &Layer::g_norm, &Shape::mixer},
                {"mlp_norm", &Layer::mlp_norm, &Shape::width},
                {"bound", &Layer::bound, &Shape::mixer}};

void reshape(Projection& projection, int rows, int columns) {
    projection.weight.rows = rows;
    projection.weight.columns = columns;
}

void take(Projection& projection, Arena& tiles, Arena& vectors) {
    projection.weight.tiles = tiles.take<uint8_t>(projection.weight.bytes());
    projection.gain = vectors.take<float>(projection.weight.padded_columns());
}

size_t vector_bytes(int size) { return Arena::rounded(padded(size, kColumnPadding) * sizeof(float)); }

}  // namespace

Model::Model(const Shape& shape, const Kernels& kernels, int threads)
    : shape_(shape), kernels_(kernels), pool_(threads), layers_(shape.layers), watches_(threads) {
    reshape(head_, shape.vocabulary, shape.width);
    size_t tiles = head_.weight.bytes(), vectors = 2 * vector_bytes(shape.width);
    for (Layer& layer : layers_) {
        plan_layer(layer);
        for (auto member : kProjections) {
            tiles += (layer.*member).weight.bytes();
            vectors += vector_bytes((layer.*member).weight.columns);
        }
        for (const auto& each : kVectors) vectors += vector_bytes(shape.*each.size);
    }
    tiles_ = Arena(tiles);
    vectors_ = Arena(vectors);
    for (Layer& layer : layers_) {
        for (auto member : kProjections) take(layer.*member, tiles_, vectors_);
        for (const auto& each : kVectors)
            layer.*each.values = vectors_.take<float>(padded(shape.*each.size, kColumnPadding));
    }
    take(head_, tiles_, vectors_);
    norm_ = vectors_.take<float>(padded(shape.width, kColumnPadding));
}

Model::~Model() = default;

void Model::plan_layer(Layer& layer) {
    for (Projection* gate : {&layer.i, &layer.f, &layer.g}) reshape(*gate, shape_.mixer, shape_.width);
    reshape(layer.o, shape_.width, shape_.mixer);
    for (Projection* wide : {&layer.gate, &layer.up}) reshape(*wide, shape_.hidden, shape_.width);
    reshape(layer.down, shape_.width, shape_.hidden);
}

Projection& Model::projection(int layer, const std::string& name) {
    if (layer == shape_.layers && name == "head") return head_;
    if (layer >= 0 && layer < shape_.layers)
        for (size_t k = 0; k < std::size(kProjections); ++k)
            if (name == kProjectionNames[k]) return layers_[layer].*kProjections[k];
    fail(ErrorCode::kBadArgument, "no projection " + name + " in layer " + std::to_string(layer));
}

Model::Vector Model::vector(int layer, const std::string& name) {
    if (layer == shape_.layers && name == "norm") return {norm_, shape_.width};
    if (layer >= 0 && layer < shape_.layers)
        for (const auto& each : kVectors)
            if (name == each.name) return {layers_[layer].*each.values, shape_.*each.size};
    const Projection& owner = projection(layer, name);
    return {owner.gain, owner.weight.columns};
}

void Model::set_vector(int layer, const std::string& name, const float* values, size_t size) {
    const Vector target = vector(layer, name);
    require(size == size_t(target.size), ErrorCode::kBadArgument, name + " has another length");
    std::memcpy(target.values, values, size * sizeof(float));
}

void Model::forward(const float* x, int tokens, const std::vector<float*>& states, float* logits, int rows) {
    if (!workspace_ || workspace_->tokens < tokens) {
        workspace_.reset();
        workspace_ = std::make_unique<Workspace>(shape_, kernels_, tokens, pool_.threads());
    }
    const Chunk chunk{x, tokens, states, logits, rows};
    pool_.run([&](int thread) { Pass(*this, *workspace_, chunk, thread, watches_[thread]).run(); });
}

void Model::profile(bool on) {
    for (Stopwatch& watch : watches_) watch.turn(on);
}

double Model::seconds(Phase phase) const {
    double sum = 0;
    for (const Stopwatch& watch : watches_) sum += watch.seconds(phase);
    return sum / double(watches_.size());
}

double Model::read_bandwidth(double seconds) {
    using Clock = std::chrono::steady_clock;
    const uint8_t* weights = layers_.front().i.weight.tiles;
    const int lines = int(tiles_.size() / kTileBytes);
    std::atomic<int32_t> seen{0};
    std::vector<double> passes;
    for (double total = 0; total < seconds; total += passes.back()) {
        const Clock::time_point start = Clock::now();
        pool_.run([&](int thread) {
            const Range mine = pool_.share(lines, thread);
            seen ^= kernels_.read(weights + size_t(mine.first) * kTileBytes, size_t(mine.last - mine.first) * kTileBytes);
        });
        passes.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    std::nth_element(passes.begin(), passes.begin() + passes.size() / 2, passes.end());
    return double(tiles_.size()) / passes[passes.size() / 2];
}

}  // namespace unmul
