// Texts of errors and the place where a failed RW_CHECK throws.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/result.h"

#include <stdexcept>

namespace rankwise {

std::string_view errcName(Errc code)
{
    switch (code) {
    case Errc::FileNotFound:
        return "FileNotFound";
    case Errc::FileTruncated:
        return "FileTruncated";
    case Errc::HeaderTooLarge:
        return "HeaderTooLarge";
    case Errc::HeaderInvalid:
        return "HeaderInvalid";
    case Errc::DtypeUnknown:
        return "DtypeUnknown";
    case Errc::ShapeOverflow:
        return "ShapeOverflow";
    case Errc::OffsetsInvalid:
        return "OffsetsInvalid";
    case Errc::TensorNotFound:
        return "TensorNotFound";
    case Errc::ShapeMismatch:
        return "ShapeMismatch";
    case Errc::Cancelled:
        return "Cancelled";
    case Errc::Internal:
        return "Internal";
    case Errc::JsonInvalid:
        return "JsonInvalid";
    case Errc::FieldMissing:
        return "FieldMissing";
    case Errc::FieldInvalid:
        return "FieldInvalid";
    case Errc::Unsupported:
        return "Unsupported";
    case Errc::PickleRefused:
        return "PickleRefused";
    case Errc::IoFailed:
        return "IoFailed";
    case Errc::DiskFull:
        return "DiskFull";
    case Errc::ChecksumMismatch:
        return "ChecksumMismatch";
    case Errc::DataInvalid:
        return "DataInvalid";
    case Errc::TooLarge:
        return "TooLarge";
    case Errc::DeviceFailed:
        return "DeviceFailed";
    case Errc::NotFinite:
        return "NotFinite";
    case Errc::AlreadyExists:
        return "AlreadyExists";
    case Errc::UsageInvalid:
        return "UsageInvalid";
    }
    return "Unknown";
}

namespace {

/// Bytes of the UTF-8 sequence at the start of `text`, or 0 where there is no valid one (RFC 3629).
std::size_t sequenceLength(std::string_view text)
{
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    const std::size_t length = lead < 0x80 ? 1
        : lead < 0xc2                      ? 0
        : lead < 0xe0                      ? 2
        : lead < 0xf0                      ? 3
        : lead < 0xf5                      ? 4
                                           : 0;
    if (length == 0 || length > text.size()) {
        return 0;
    }
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) {
            return 0;
        }
    }
    const bool overlong = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xf0 && byte(1) < 0x90);
    const bool surrogateOrHigh = (lead == 0xed && byte(1) > 0x9f) || (lead == 0xf4 && byte(1) > 0x8f);
    return overlong || surrogateOrHigh ? 0 : length;
}

} // namespace

std::string printableText(std::string_view text)
{
    std::string out;
    while (!text.empty()) {
        const std::size_t length = sequenceLength(text);
        const auto first = static_cast<unsigned char>(text.front());
        if (length == 0 || (length == 1 && (first < 0x20 || first == 0x7f) && first != '\n' && first != '\t')) {
            out += "\xef\xbf\xbd"; // U+FFFD
        } else {
            out += text.substr(0, length);
        }
        text.remove_prefix(length == 0 ? 1 : length);
    }
    return out;
}

std::string Error::describe() const
{
    std::string text;
    if (!subject.empty()) {
        text += printableText(subject) + ": ";
    }
    text += printableText(message) + " (" + std::string(errcName(code));
    if (offset >= 0) {
        text += " at byte " + std::to_string(offset);
    }
    return text + ")";
}

void detail::checkFailed(const char* condition, const char* file, int line, const std::string& values)
{
    std::string text = std::string(file) + ":" + std::to_string(line) + ": check failed: " + condition;
    if (!values.empty()) {
        text += " [" + values + "]";
    }
    throw std::logic_error(text);
}

} // namespace rankwise
