// What a policy does on the practice arm, as a stream of messages on one clock: from the program that runs it
// (`rankwise rollout`, on its standard output) to whoever shows it, and requests the other way (its standard input).
//
// Version 1. Each message is a MessagePack map behind its length in bytes (4, little-endian). "type" tells which;
// readers skip types and fields that they do not know. Arrays are numpy envelopes as in backend/io/msgpack.h.
// Units: rad, m, s, N·m; frame: the world of backend/sim/environment.h.
//   scene    first, once: title, arm, policy, limits [7, 2], cameras [names], control_hz, action_steps,
//            shapes [{kind, size [3], rgba [4], name, arm}], layers [{path, group, depth, capacity}]
//   episode  index, seed, instruction, time_limit (steps)
//   state    sequence, time, step, paused, done, success, measured [7], target [7], velocity [7], torque [6],
//            gripper [3], poses f32 [n, 12], ghost f32 [n, 12] (position, then rotation row-major), hz, late, worst
//   images   step, images [u8 [h, w, 3]]
//   chunk    number, step (at which it begins), latency, actions f32 [T, 7], path f32 [T, 3], rank f32 [L],
//            energy f32 [L], shares [f32 [m]], kinds [f32 [2 + m]]: [layer, kind, shares …]
//   end      index, success, steps, seconds (of the wall)
//   error    message; the stream ends
// Requests: {"request": "pause" | "go" | "step" | "episode" | "stop", "index"}; "step" runs one action while paused,
// "episode" begins the one of that index.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/sim/image.h"
#include "backend/sim/scene_shapes.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace rankwise::sim {

/// A layer whose active ranks the stream tells.
struct StreamLayer {
    std::string path;
    std::int64_t group = 0;
    std::int64_t depth = -1;
    std::int64_t capacity = 0;
};

struct StreamScene {
    std::string title, arm, policy;
    std::array<std::array<double, 2>, kActionSize> limits {};
    std::vector<std::string> cameras;
    std::int64_t controlHz = kControlHz;
    std::int64_t actionSteps = 0; ///< Actions that are run of each chunk.
    std::vector<SceneShape> shapes;
    std::vector<StreamLayer> layers; ///< Empty: the policy has no adapter that adapts ranks.
};

struct StreamEpisode {
    std::int64_t index = 0;
    std::uint64_t seed = 0;
    std::string instruction;
    std::int64_t timeLimit = 0;
};

struct StreamState {
    std::uint64_t sequence = 0;
    double time = 0; ///< Simulated, since the episode began.
    std::int64_t step = 0;
    bool paused = false;
    bool done = false;
    bool success = false;
    Action measured {}, target {}, velocity {};
    std::array<double, kJointCount> torque {};
    std::array<double, 3> gripper {};
    std::vector<ShapePose> poses, ghost;
    double hz = 0; ///< Of the watching loop, over the last second.
    std::uint64_t late = 0;
    double worst = 0; ///< Latest tick.
};

struct StreamImages {
    std::int64_t step = 0;
    std::vector<Image> images;
};

struct StreamChunk {
    std::int64_t number = 0;
    std::int64_t step = 0;
    double latency = 0;
    std::vector<Action> actions; ///< All T planned ones.
    std::vector<std::array<float, 3>> path;
    std::vector<float> rank, energy;
    std::vector<std::vector<float>> shares;
    std::vector<std::vector<float>> kinds;
};

struct StreamEnd {
    std::int64_t index = 0;
    bool success = false;
    std::int64_t steps = 0;
    double seconds = 0; ///< Of the wall.
};

struct StreamError {
    std::string message;
};

using StreamMessage =
    std::variant<StreamScene, StreamEpisode, StreamState, StreamImages, StreamChunk, StreamEnd, StreamError>;

struct StreamRequest {
    enum class Kind { Pause, Go, Step, Episode, Stop };
    Kind kind = Kind::Pause;
    std::int64_t index = 0; ///< Episode.
};

/// With the length in front. Thread: any.
[[nodiscard]] std::vector<std::byte> encodeMessage(const StreamMessage& message);
[[nodiscard]] std::vector<std::byte> encodeRequest(const StreamRequest& request);

/// One message without its length; nothing for a type that this version does not know.
/// Errors: those of decodeMsgpack(), FieldMissing, FieldInvalid.
[[nodiscard]] Result<std::optional<StreamMessage>> decodeMessage(std::span<const std::byte> message);
[[nodiscard]] Result<StreamRequest> decodeRequest(std::span<const std::byte> message);

/// Cuts a stream of bytes into messages. Thread: one at a time.
class MessageSplitter {
public:
    static constexpr std::size_t kMaxBytes = 32u << 20;

    void add(std::span<const std::byte> bytes);
    /// The next whole message without its length, valid until the next call of either; nothing yet.
    /// Errors: TooLarge; the stream is of no use then.
    [[nodiscard]] Result<std::optional<std::span<const std::byte>>> next();

private:
    std::vector<std::byte> m_bytes;
    std::size_t m_begin = 0;
};

} // namespace rankwise::sim
