#include "config.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>

#include "errors.h"
#include "json.h"

namespace unmul {
namespace {

constexpr const char* kRepack = ": pack the latent checkpoint again";

// Every field of ModelConfig with its default, by name. Others are passed over: the checksum guards the meaning of these.
constexpr const char* kFields[][2] = {
    {"bos_token_id", "1"},
    {"conv_size", "4"},
    {"eos_token_id", "2"},
    {"expand_ratio", "1"},
    {"hidden_act", "\"swish\""},
    {"hidden_ratio", "4"},
    {"hidden_size", "2048"},
    {"initializer_range", "0.02"},
    {"intermediate_size", "null"},
    {"max_position_embeddings", "2048"},
    {"num_heads", "1"},
    {"num_hidden_layers", "24"},
    {"pad_token_id", "null"},
    {"rms_norm_eps", "1e-06"},
    {"tie_word_embeddings", "false"},
    {"use_lower_bound", "true"},
    {"use_shared_norm", "false"},
    {"use_short_conv", "false"},
    {"use_state_norm", "false"},
    {"vocab_size", "32000"},
};
constexpr const char* kFixed[] = {"num_heads", "use_short_conv", "tie_word_embeddings"};

// Fields as they stand in the file or by default.
class Fields {
public:
    explicit Fields(const Json& raw) {
        for (const auto& [name, usual] : kFields) {
            Json fallback = Json::parse(usual, name);
            const Json* given = raw.find(name);
            values_.members.emplace_back(name, given ? *given : fallback);
            usual_.members.emplace_back(name, std::move(fallback));
        }
    }

    const Json& operator[](const char* name) const { return *values_.find(name); }

    bool is_usual(const char* name) const {
        const Json &value = (*this)[name], &usual = *usual_.find(name);
        if (value.kind != usual.kind) return false;
        return value.kind == Json::kNumber ? value.number() == usual.number() : value.text == usual.text;
    }

    int count(const char* name) const {
        const int64_t value = (*this)[name].count();
        check(value >= 1 && value <= std::numeric_limits<int>::max(), name, "is not a count");
        return int(value);
    }

    double positive(const char* name) const {
        const Json& value = (*this)[name];
        check(value.kind == Json::kNumber && value.number() > 0 && std::isfinite(value.number()), name,
              "is not a positive number");
        return value.number();
    }

    bool truth(const char* name) const {
        check((*this)[name].kind == Json::kBoolean, name, "is not a truth value");
        return (*this)[name].text == "true";
    }

    int token(const char* name, int vocabulary) const {
        if ((*this)[name].kind == Json::kNull) return -1;
        const int64_t value = (*this)[name].count();
        check(value >= 0 && value < vocabulary, name, "is not a token id");
        return int(value);
    }

    static void check(bool condition, const char* name, const char* problem) {
        require(condition, ErrorCode::kDamaged, std::string("config.json: ") + name + " " + problem + kRepack);
    }

private:
    Json values_, usual_;
};

// As Python's json.dumps writes them. Numbers stay as the file spells them, which is how packing wrote them.
std::string spelled(const Json& value) {
    if (value.kind == Json::kNull) return "null";
    if (value.kind != Json::kString) return value.text;
    const auto plain = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
    require(std::all_of(value.text.begin(), value.text.end(), plain), ErrorCode::kUnsupported,
            "config.json: a name with unusual characters is not supported");
    return '"' + value.text + '"';
}

std::string meaning(const Fields& fields, const std::string& embeddings) {
    std::string text;
    const auto add = [&](const std::string& name, const std::string& value) {
        text += (text.empty() ? "{\"" : ",\"") + name + "\":" + value;
    };
    bool pending = true;  // the one key that is no field has its place by its name
    for (const auto& [name, _] : kFields) {
        if (pending && std::string_view("embeddings") < name) add("embeddings", '"' + embeddings + '"'), pending = false;
        if (!fields.is_usual(name)) add(name, spelled(fields[name]));
    }
    return text + "}";
}

int hidden_size(const Fields& fields, int width) {
    if (fields["intermediate_size"].kind != Json::kNull) return fields.count("intermediate_size");
    const double wanted = std::trunc(width * fields.positive("hidden_ratio") * 2 / 3);
    Fields::check(wanted <= kMaxColumns, "hidden_ratio", "is too large");
    return 256 * int(std::ceil(wanted / 256));
}

}  // namespace

Config parse_config(std::string_view text) {
    const Json raw = Json::parse(text, "config.json");
    const Json* type = raw.find("model_type");
    require(!type || type->text == "hgrn_bit", ErrorCode::kUnsupported, "config.json: model_type is not hgrn_bit");
    require(raw.find("quantization_config"), ErrorCode::kUnsupported, "the folder is not packed: unmul pack FOLDER PACKED");
    const Json& quantization = raw.at("quantization_config", Json::kObject);
    require(quantization.at("quant_method", Json::kString).text == "unmul", ErrorCode::kUnsupported,
            std::string("config.json: quant_method is not unmul") + kRepack);
    require(quantization.at("version", Json::kNumber).count() == 1, ErrorCode::kUnsupported,
            std::string("config.json: packed format of another version") + kRepack);
    const std::string& embeddings = quantization.at("embeddings", Json::kString).text;
    Fields::check(embeddings == "int8" || embeddings == "bf16", "embeddings", "is neither int8 nor bf16");
    const Fields fields(raw);
    for (const char* name : kFixed) Fields::check(fields.is_usual(name), name, "has a value that is not supported");
    const int width = fields.count("hidden_size"), vocabulary = fields.count("vocab_size");
    const int begin = fields.token("bos_token_id", vocabulary), end = fields.token("eos_token_id", vocabulary);
    const int64_t mixer = int64_t(fields.count("expand_ratio")) * width;
    Fields::check(mixer <= kMaxColumns, "hidden_size times expand_ratio", "is more than an int32 sum can hold");
    const Shape shape{fields.count("num_hidden_layers"), width, int(mixer), hidden_size(fields, width), vocabulary,
                      float(fields.positive("rms_norm_eps")), fields.truth("use_shared_norm"),
                      fields.truth("use_state_norm")};
    Fields::check(shape.hidden <= kMaxColumns, "intermediate_size", "is more than an int32 sum can hold");
    return {shape, fields.truth("use_lower_bound"), embeddings == "int8", begin < 0 ? end : begin, end,
            quantization.at("checksum", Json::kString).text, meaning(fields, embeddings)};
}

}  // namespace unmul
