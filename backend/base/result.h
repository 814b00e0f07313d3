// Result<T>: a value or a typed Error. Every backend function whose outcome
// depends on a file, a device, a network or the user returns one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace rankwise {

/// Reason of a failure. Values are stable: tests assert on them, `--json`
/// prints their names and the widgets choose the translated sentence by them.
/// Add at the end only, and to errcName().
enum class Errc : std::uint8_t {
    FileNotFound,      ///< The path does not name a readable file or folder.
    FileTruncated,     ///< Fewer bytes than the header promises.
    HeaderTooLarge,    ///< Header longer than the format's limit.
    HeaderInvalid,     ///< Header is not what the format asks for.
    DtypeUnknown,      ///< A dtype name that the format does not list.
    ShapeOverflow,     ///< Element count or byte count does not fit 64 bits.
    OffsetsInvalid,    ///< Tensor ranges overlap, leave a hole or run past the end.
    TensorNotFound,    ///< No tensor of that name.
    ShapeMismatch,     ///< Two shapes that must agree do not.
    Cancelled,         ///< The user stopped the job.
    Internal,          ///< A bug of ours; the message says where.
    JsonInvalid,       ///< Not JSON (RFC 8259), not UTF-8, nested too deep, or a key twice.
    FieldMissing,      ///< A field that must be there is not.
    FieldInvalid,      ///< A field of the wrong type, or outside its range.
    Unsupported,       ///< Well-formed, but a kind or version that we do not handle.
    PickleRefused,     ///< A pickle: running foreign code is not reading.
    IoFailed,          ///< The operating system refused a read, write, sync or rename.
    DiskFull,          ///< No space left; what was written before is whole.
    ChecksumMismatch,  ///< Stored and computed checksum differ.
    DataInvalid,       ///< Contents contradict the format or each other.
    TooLarge,          ///< A count or size beyond the documented limit.
    DeviceFailed,      ///< Camera, bus, GPU or display gave an error.
    NotFinite,         ///< NaN or infinity where a number is needed.
    AlreadyExists,     ///< The target is there and must not be replaced.
    UsageInvalid,      ///< A command line that does not parse.
};

/// Name as in the source, e.g. "FileTruncated"; stable.
[[nodiscard]] std::string_view errcName(Errc code);

/// `text` with control characters (but newline and tab) and bytes that are no UTF-8 replaced by U+FFFD.
[[nodiscard]] std::string printableText(std::string_view text);

/// What went wrong and where. `message` is English: what is wrong and the remedy.
struct Error {
    Errc code = Errc::Internal;
    std::string message;
    std::string subject;       ///< File, tensor, field or device concerned; may be empty.
    std::int64_t offset = -1;  ///< Byte offset in the file, -1 where none applies.

    /// "subject: message (Code at byte N)", for logs and terminals: printable, whatever the file held.
    [[nodiscard]] std::string describe() const;
};

/// Trouble that did not stop the reading; shown in a list beside the result.
struct Warning {
    std::string message;
    std::string subject;
};

template <class T> using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string message, std::string subject = {},
                                                std::int64_t offset = -1)
{
    return tl::unexpected<Error>({ code, std::move(message), std::move(subject), offset });
}

namespace detail {
[[noreturn]] void checkFailed(const char* condition, const char* file, int line, const std::string& values);
}

}  // namespace rankwise

/// A bug of ours if false: throws std::logic_error with the place, in every build.
#define RW_CHECK(condition, ...)                                                                                      \
    do {                                                                                                              \
        if (!(condition)) [[unlikely]] {                                                                              \
            ::rankwise::detail::checkFailed(#condition, __FILE__, __LINE__, std::string { __VA_ARGS__ });             \
        }                                                                                                             \
    } while (false)

#define RW_CONCAT_INNER(a, b) a##b
#define RW_CONCAT(a, b) RW_CONCAT_INNER(a, b)

/// `RW_TRY(auto x, f());` declares x with the value of f(), or returns its Error.
#define RW_TRY(declaration, expression)                                                                               \
    auto RW_CONCAT(rwTry, __LINE__) = (expression);                                                                   \
    if (!RW_CONCAT(rwTry, __LINE__))                                                                                  \
        return ::tl::unexpected<::rankwise::Error>(std::move(RW_CONCAT(rwTry, __LINE__)).error());                    \
    declaration = std::move(*RW_CONCAT(rwTry, __LINE__))

/// Returns the Error of a Result<void>, if any.
#define RW_TRY_VOID(expression)                                                                                       \
    do {                                                                                                              \
        if (auto rwTryVoid = (expression); !rwTryVoid)                                                                \
            return ::tl::unexpected<::rankwise::Error>(std::move(rwTryVoid).error());                                 \
    } while (false)
