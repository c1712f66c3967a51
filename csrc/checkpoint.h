// A packed checkpoint (docs/formats.md) for programs without Python: the counterpart of unmul.checkpoint.packed and
// unmul.engine.load, which read the same files.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "config.h"
#include "model.h"
#include "tensors.h"

namespace unmul {

class Checkpoint {
public:
    // Checks the checksum, the shape and the type of everything. The bytes of the weights must outlive the checkpoint.
    // Throws Error.
    Checkpoint(std::string_view config, std::string_view weights);

    const Config& config() const { return config_; }

    // A model with every weight. Throws Error where bytes or scales are none that packing writes.
    std::unique_ptr<Model> load(const Kernels& kernels, int threads) const;

    // Rows of the embedding table: tokens [T] -> x [T, D].
    void embed(const int32_t* ids, size_t count, float* x) const;

private:
    void expect(const std::string& name, const char* type, std::vector<int64_t> shape);
    void expect_projection(const std::string& name, int rows, int columns);
    void check_tensors();
    void load_projection(Model& model, int layer, const char* to, const std::string& name, int first_row) const;
    void load_vector(Model& model, int layer, const char* to, const std::string& name) const;
    void load_layer(Model& model, int layer) const;
    void load_bounds(Model& model) const;
    const Tensor& tensor(const std::string& name) const { return tensors_.at(name); }

    Config config_;
    Tensors tensors_;
    size_t expected_ = 0;  // tensors of this shape
};

}  // namespace unmul
