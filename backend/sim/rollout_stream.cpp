// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/rollout_stream.h"

#include "backend/io/msgpack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace rankwise::sim {

namespace {

using io::NumpyArray;
using io::Value;

constexpr std::size_t kLengthBytes = 4;
constexpr std::size_t kPoseNumbers = 12;

std::vector<std::byte> framed(Value::Map map)
{
    const auto body = io::encodeMsgpack(Value(std::move(map)));
    RW_CHECK(body.has_value(), "a message of a rollout cannot be encoded");
    std::vector<std::byte> bytes(kLengthBytes + body->size());
    for (std::size_t i = 0; i < kLengthBytes; ++i) {
        bytes[i] = static_cast<std::byte>(body->size() >> (8 * i));
    }
    std::ranges::copy(*body, bytes.begin() + kLengthBytes);
    return bytes;
}

template <class Range> Value numbers(const Range& values)
{
    const std::vector<double> list(values.begin(), values.end());
    return NumpyArray::of(std::span<const double>(list), { static_cast<std::int64_t>(list.size()) });
}

Value floats(const std::vector<float>& values)
{
    return NumpyArray::of(std::span<const float>(values), { static_cast<std::int64_t>(values.size()) });
}

Value floatRows(const std::vector<std::vector<float>>& rows)
{
    Value::Array list;
    for (const std::vector<float>& row : rows) {
        list.push_back(floats(row));
    }
    return list;
}

/// Rows of `width` numbers as f32 [n, width].
template <class Rows> Value table(const Rows& rows, std::size_t width)
{
    std::vector<float> flat;
    flat.reserve(rows.size() * width);
    for (const auto& row : rows) {
        for (const auto value : row) {
            flat.push_back(static_cast<float>(value));
        }
    }
    return NumpyArray::of(std::span<const float>(flat),
                          { static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(width) });
}

Value posesValue(const std::vector<ShapePose>& poses)
{
    std::vector<float> flat;
    flat.reserve(poses.size() * kPoseNumbers);
    for (const ShapePose& pose : poses) {
        flat.insert(flat.end(), pose.position.begin(), pose.position.end());
        flat.insert(flat.end(), pose.rotation.begin(), pose.rotation.end());
    }
    return NumpyArray::of(std::span<const float>(flat),
                          { static_cast<std::int64_t>(poses.size()), static_cast<std::int64_t>(kPoseNumbers) });
}

struct Encoder {
    Value::Map operator()(const StreamScene& m) const
    {
        Value::Array shapes;
        for (const SceneShape& shape : m.shapes) {
            shapes.push_back(Value::Map { { "kind", static_cast<int>(shape.kind) },
                                          { "size", numbers(shape.size) },
                                          { "rgba", numbers(shape.rgba) },
                                          { "name", shape.name },
                                          { "arm", shape.arm } });
        }
        Value::Array layers;
        for (const StreamLayer& layer : m.layers) {
            layers.push_back(Value::Map { { "path", layer.path },
                                          { "group", layer.group },
                                          { "depth", layer.depth },
                                          { "capacity", layer.capacity } });
        }
        Value::Array cameras(m.cameras.begin(), m.cameras.end());
        std::vector<double> limits;
        for (const auto& [low, high] : m.limits) {
            limits.insert(limits.end(), { low, high });
        }
        return { { "type", "scene" },
                 { "version", 1 },
                 { "title", m.title },
                 { "arm", m.arm },
                 { "policy", m.policy },
                 { "limits", numbers(limits) },
                 { "cameras", std::move(cameras) },
                 { "control_hz", m.controlHz },
                 { "action_steps", m.actionSteps },
                 { "shapes", std::move(shapes) },
                 { "layers", std::move(layers) } };
    }
    Value::Map operator()(const StreamEpisode& m) const
    {
        return { { "type", "episode" },
                 { "index", m.index },
                 { "seed", m.seed },
                 { "instruction", m.instruction },
                 { "time_limit", m.timeLimit } };
    }
    Value::Map operator()(const StreamState& m) const
    {
        return { { "type", "state" },
                 { "sequence", m.sequence },
                 { "time", m.time },
                 { "step", m.step },
                 { "paused", m.paused },
                 { "done", m.done },
                 { "success", m.success },
                 { "measured", numbers(m.measured) },
                 { "target", numbers(m.target) },
                 { "velocity", numbers(m.velocity) },
                 { "torque", numbers(m.torque) },
                 { "gripper", numbers(m.gripper) },
                 { "poses", posesValue(m.poses) },
                 { "ghost", posesValue(m.ghost) },
                 { "hz", m.hz },
                 { "late", m.late },
                 { "worst", m.worst } };
    }
    Value::Map operator()(const StreamImages& m) const
    {
        Value::Array images;
        for (const Image& image : m.images) {
            images.push_back(
                NumpyArray::of(std::span<const std::uint8_t>(image.rgb), { image.height, image.width, 3 }));
        }
        return { { "type", "images" }, { "step", m.step }, { "images", std::move(images) } };
    }
    Value::Map operator()(const StreamChunk& m) const
    {
        return { { "type", "chunk" },
                 { "number", m.number },
                 { "step", m.step },
                 { "latency", m.latency },
                 { "actions", table(m.actions, kActionSize) },
                 { "path", table(m.path, 3) },
                 { "rank", floats(m.rank) },
                 { "energy", floats(m.energy) },
                 { "shares", floatRows(m.shares) },
                 { "kinds", floatRows(m.kinds) } };
    }
    Value::Map operator()(const StreamEnd& m) const
    {
        return { { "type", "end" },
                 { "index", m.index },
                 { "success", m.success },
                 { "steps", m.steps },
                 { "seconds", m.seconds } };
    }
    Value::Map operator()(const StreamError& m) const { return { { "type", "error" }, { "message", m.message } }; }
};

/// Reads fields of a map; what is wrong first is kept, and later reads leave their target alone.
class Fields {
public:
    explicit Fields(const Value& map) : m_map(map) { }

    [[nodiscard]] const std::optional<Error>& error() const { return m_error; }
    void refuse(std::string_view name, const char* why)
    {
        if (!m_error) {
            m_error = Error { Errc::FieldInvalid, std::string(name) + " " + why, "rollout stream" };
        }
    }

    const Value* find(std::string_view name)
    {
        const Value* const value = m_error ? nullptr : m_map.find(name);
        if (value == nullptr && !m_error) {
            m_error = Error { Errc::FieldMissing, std::string(name) + " is missing", "rollout stream" };
        }
        return value;
    }

    void read(std::string_view name, std::string& text)
    {
        if (const Value* const value = find(name)) {
            if (const auto found = value->text()) {
                text = *found;
            } else {
                refuse(name, "is no text");
            }
        }
    }
    void read(std::string_view name, bool& flag)
    {
        if (const Value* const value = find(name)) {
            if (const bool* const found = value->as<bool>()) {
                flag = *found;
            } else {
                refuse(name, "is no truth value");
            }
        }
    }
    void read(std::string_view name, double& number)
    {
        if (const Value* const value = find(name)) {
            if (const auto found = value->number()) {
                number = *found;
            } else {
                refuse(name, "is no number");
            }
        }
    }
    void read(std::string_view name, std::int64_t& number)
    {
        if (const Value* const value = find(name)) {
            if (const auto* const found = value->as<std::int64_t>()) {
                number = *found;
            } else {
                refuse(name, "is no integer");
            }
        }
    }
    void read(std::string_view name, std::uint64_t& number)
    {
        if (const Value* const value = find(name)) {
            if (const auto* const large = value->as<std::uint64_t>()) {
                number = *large;
            } else if (const auto* const found = value->as<std::int64_t>(); found != nullptr && *found >= 0) {
                number = static_cast<std::uint64_t>(*found);
            } else {
                refuse(name, "is no natural number");
            }
        }
    }
    /// Exactly as many numbers as there is room for.
    template <class T, std::size_t N> void read(std::string_view name, std::array<T, N>& numbers_)
    {
        const std::vector<double> found = doubles(name);
        if (!m_error && found.size() != N) {
            refuse(name, "has another number of elements");
        }
        if (!m_error) {
            std::ranges::transform(found, numbers_.begin(), [](double v) { return static_cast<T>(v); });
        }
    }
    void read(std::string_view name, std::vector<float>& numbers_)
    {
        if (const Value* const value = find(name)) {
            readFloats(name, *value, numbers_);
        }
    }
    void read(std::string_view name, std::vector<std::vector<float>>& rows)
    {
        forEach(name, [&](const Value& item) { readFloats(name, item, rows.emplace_back()); });
    }
    /// f32 [n, width], a row after the other.
    std::vector<float> tableOf(std::string_view name, std::size_t width)
    {
        std::vector<float> flat;
        read(name, flat);
        if (!m_error && flat.size() % width != 0) {
            refuse(name, "has rows of another width");
        }
        return m_error ? std::vector<float> {} : flat;
    }
    template <class Visit> void forEach(std::string_view name, const Visit& visit)
    {
        const Value* const value = find(name);
        if (value == nullptr) {
            return;
        }
        const auto* const list = value->as<Value::Array>();
        if (list == nullptr) {
            refuse(name, "is no list");
            return;
        }
        for (const Value& item : *list) {
            visit(item);
        }
    }
    /// Takes over the error of a map inside.
    void take(const Fields& inner)
    {
        if (!m_error) {
            m_error = inner.m_error;
        }
    }

private:
    std::vector<double> doubles(std::string_view name)
    {
        if (const Value* const value = find(name)) {
            if (const auto* const array = value->as<NumpyArray>()) {
                if (auto found = array->toDoubles()) {
                    return *found;
                }
            }
            refuse(name, "is no array of numbers");
        }
        return {};
    }
    void readFloats(std::string_view name, const Value& value, std::vector<float>& numbers_)
    {
        if (const auto* const array = value.as<NumpyArray>()) {
            if (auto found = array->toFloats()) {
                numbers_ = std::move(*found);
                return;
            }
        }
        refuse(name, "is no array of numbers");
    }

    const Value& m_map;
    std::optional<Error> m_error;
};

std::vector<ShapePose> posesOf(Fields& fields, std::string_view name)
{
    const std::vector<float> flat = fields.tableOf(name, kPoseNumbers);
    std::vector<ShapePose> poses(flat.size() / kPoseNumbers);
    auto at = flat.begin();
    for (ShapePose& pose : poses) {
        std::copy_n(at, 3, pose.position.begin());
        std::copy_n(at + 3, 9, pose.rotation.begin());
        at += kPoseNumbers;
    }
    return poses;
}

StreamScene sceneOf(Fields& fields)
{
    StreamScene m;
    fields.read("title", m.title);
    fields.read("arm", m.arm);
    fields.read("policy", m.policy);
    std::array<double, 2 * kActionSize> limits {};
    fields.read("limits", limits);
    for (std::size_t j = 0; j < kActionSize; ++j) {
        m.limits[j] = { limits[2 * j], limits[2 * j + 1] };
    }
    fields.forEach("cameras", [&](const Value& item) {
        const auto name = item.text();
        if (!name) {
            fields.refuse("cameras", "holds something else than texts");
        }
        m.cameras.push_back(name.value_or(std::string()));
    });
    fields.read("control_hz", m.controlHz);
    fields.read("action_steps", m.actionSteps);
    fields.forEach("shapes", [&](const Value& item) {
        Fields inner(item);
        SceneShape& shape = m.shapes.emplace_back();
        std::int64_t kind = 0;
        inner.read("kind", kind);
        if (kind < 0 || kind > static_cast<std::int64_t>(SceneShape::Kind::Plane)) {
            inner.refuse("kind", "of a shape is unknown");
        } else {
            shape.kind = static_cast<SceneShape::Kind>(kind);
        }
        inner.read("size", shape.size);
        inner.read("rgba", shape.rgba);
        inner.read("name", shape.name);
        inner.read("arm", shape.arm);
        fields.take(inner);
    });
    fields.forEach("layers", [&](const Value& item) {
        Fields inner(item);
        StreamLayer& layer = m.layers.emplace_back();
        inner.read("path", layer.path);
        inner.read("group", layer.group);
        inner.read("depth", layer.depth);
        inner.read("capacity", layer.capacity);
        fields.take(inner);
    });
    return m;
}

StreamEpisode episodeOf(Fields& fields)
{
    StreamEpisode m;
    fields.read("index", m.index);
    fields.read("seed", m.seed);
    fields.read("instruction", m.instruction);
    fields.read("time_limit", m.timeLimit);
    return m;
}

StreamState stateOf(Fields& fields)
{
    StreamState m;
    fields.read("sequence", m.sequence);
    fields.read("time", m.time);
    fields.read("step", m.step);
    fields.read("paused", m.paused);
    fields.read("done", m.done);
    fields.read("success", m.success);
    fields.read("measured", m.measured);
    fields.read("target", m.target);
    fields.read("velocity", m.velocity);
    fields.read("torque", m.torque);
    fields.read("gripper", m.gripper);
    m.poses = posesOf(fields, "poses");
    m.ghost = posesOf(fields, "ghost");
    fields.read("hz", m.hz);
    fields.read("late", m.late);
    fields.read("worst", m.worst);
    return m;
}

StreamImages imagesOf(Fields& fields)
{
    StreamImages m;
    fields.read("step", m.step);
    fields.forEach("images", [&](const Value& item) {
        const auto* const array = item.as<NumpyArray>();
        if (array == nullptr || array->dtype != "|u1" || array->shape.size() != 3 || array->shape[2] != 3
            || array->shape[0] < 1 || array->shape[1] < 1 || array->shape[0] > 4096 || array->shape[1] > 4096) {
            fields.refuse("images", "holds something else than pictures");
            return;
        }
        Image image { static_cast<int>(array->shape[1]), static_cast<int>(array->shape[0]), {} };
        image.rgb.resize(array->data.size());
        std::memcpy(image.rgb.data(), array->data.data(), array->data.size());
        m.images.push_back(std::move(image));
    });
    return m;
}

StreamChunk chunkOf(Fields& fields)
{
    StreamChunk m;
    fields.read("number", m.number);
    fields.read("step", m.step);
    fields.read("latency", m.latency);
    const std::vector<float> actions = fields.tableOf("actions", kActionSize);
    m.actions.resize(actions.size() / kActionSize);
    for (std::size_t i = 0; i < actions.size(); ++i) {
        m.actions[i / kActionSize][i % kActionSize] = actions[i];
    }
    const std::vector<float> path = fields.tableOf("path", 3);
    m.path.resize(path.size() / 3);
    for (std::size_t i = 0; i < path.size(); ++i) {
        m.path[i / 3][i % 3] = path[i];
    }
    fields.read("rank", m.rank);
    fields.read("energy", m.energy);
    fields.read("shares", m.shares);
    fields.read("kinds", m.kinds);
    return m;
}

StreamEnd endOf(Fields& fields)
{
    StreamEnd m;
    fields.read("index", m.index);
    fields.read("success", m.success);
    fields.read("steps", m.steps);
    fields.read("seconds", m.seconds);
    return m;
}

constexpr std::array<std::pair<const char*, StreamRequest::Kind>, 5> kRequests { {
    { "pause", StreamRequest::Kind::Pause },
    { "go", StreamRequest::Kind::Go },
    { "step", StreamRequest::Kind::Step },
    { "episode", StreamRequest::Kind::Episode },
    { "stop", StreamRequest::Kind::Stop },
} };

} // namespace

std::vector<std::byte> encodeMessage(const StreamMessage& message)
{
    return framed(std::visit(Encoder {}, message));
}

std::vector<std::byte> encodeRequest(const StreamRequest& request)
{
    const auto* const found =
        std::ranges::find(kRequests, request.kind, [](const auto& entry) { return entry.second; });
    RW_CHECK(found != kRequests.end(), "request of a rollout");
    return framed({ { "request", found->first }, { "index", request.index } });
}

Result<std::optional<StreamMessage>> decodeMessage(std::span<const std::byte> message)
{
    RW_TRY(const Value map, io::decodeMsgpack(message));
    Fields fields(map);
    std::string type;
    fields.read("type", type);
    std::optional<StreamMessage> decoded;
    if (type == "scene") {
        decoded = sceneOf(fields);
    } else if (type == "episode") {
        decoded = episodeOf(fields);
    } else if (type == "state") {
        decoded = stateOf(fields);
    } else if (type == "images") {
        decoded = imagesOf(fields);
    } else if (type == "chunk") {
        decoded = chunkOf(fields);
    } else if (type == "end") {
        decoded = endOf(fields);
    } else if (type == "error") {
        StreamError error;
        fields.read("message", error.message);
        decoded = error;
    }
    if (fields.error()) {
        return tl::unexpected<Error>(*fields.error());
    }
    return decoded;
}

Result<StreamRequest> decodeRequest(std::span<const std::byte> message)
{
    RW_TRY(const Value map, io::decodeMsgpack(message));
    Fields fields(map);
    StreamRequest request;
    std::string name;
    fields.read("request", name);
    fields.read("index", request.index);
    const auto* const found = std::ranges::find(kRequests, name, [](const auto& entry) { return entry.first; });
    if (found == kRequests.end()) {
        fields.refuse("request", "is none that this version knows");
    } else {
        request.kind = found->second;
    }
    if (fields.error()) {
        return tl::unexpected<Error>(*fields.error());
    }
    return request;
}

void MessageSplitter::add(std::span<const std::byte> bytes)
{
    if (m_begin > 0) {
        m_bytes.erase(m_bytes.begin(), m_bytes.begin() + static_cast<std::ptrdiff_t>(m_begin));
        m_begin = 0;
    }
    m_bytes.insert(m_bytes.end(), bytes.begin(), bytes.end());
}

Result<std::optional<std::span<const std::byte>>> MessageSplitter::next()
{
    const std::span<const std::byte> rest = std::span(m_bytes).subspan(m_begin);
    if (rest.size() < kLengthBytes) {
        return std::optional<std::span<const std::byte>>();
    }
    std::size_t length = 0;
    for (std::size_t i = 0; i < kLengthBytes; ++i) {
        length |= std::to_integer<std::size_t>(rest[i]) << (8 * i);
    }
    if (length > kMaxBytes) {
        return fail(Errc::TooLarge, "a message is longer than any can be", "rollout stream");
    }
    if (rest.size() < kLengthBytes + length) {
        return std::optional<std::span<const std::byte>>();
    }
    m_begin += kLengthBytes + length;
    return std::optional(rest.subspan(kLengthBytes, length));
}

} // namespace rankwise::sim
