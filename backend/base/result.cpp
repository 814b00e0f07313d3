// Texts of errors and the place where a failed RW_CHECK throws.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/result.h"

#include <stdexcept>

namespace rankwise {

std::string_view errcName(Errc code)
{
    switch (code) {
    case Errc::FileNotFound: return "FileNotFound";
    case Errc::FileTruncated: return "FileTruncated";
    case Errc::HeaderTooLarge: return "HeaderTooLarge";
    case Errc::HeaderInvalid: return "HeaderInvalid";
    case Errc::DtypeUnknown: return "DtypeUnknown";
    case Errc::ShapeOverflow: return "ShapeOverflow";
    case Errc::OffsetsInvalid: return "OffsetsInvalid";
    case Errc::TensorNotFound: return "TensorNotFound";
    case Errc::ShapeMismatch: return "ShapeMismatch";
    case Errc::Cancelled: return "Cancelled";
    case Errc::Internal: return "Internal";
    case Errc::JsonInvalid: return "JsonInvalid";
    case Errc::FieldMissing: return "FieldMissing";
    case Errc::FieldInvalid: return "FieldInvalid";
    case Errc::Unsupported: return "Unsupported";
    case Errc::PickleRefused: return "PickleRefused";
    case Errc::IoFailed: return "IoFailed";
    case Errc::DiskFull: return "DiskFull";
    case Errc::ChecksumMismatch: return "ChecksumMismatch";
    case Errc::DataInvalid: return "DataInvalid";
    case Errc::TooLarge: return "TooLarge";
    case Errc::DeviceFailed: return "DeviceFailed";
    case Errc::NotFinite: return "NotFinite";
    case Errc::AlreadyExists: return "AlreadyExists";
    case Errc::UsageInvalid: return "UsageInvalid";
    }
    return "Unknown";
}

std::string Error::describe() const
{
    std::string text;
    if (!subject.empty()) {
        text += subject + ": ";
    }
    text += message + " (" + std::string(errcName(code));
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

}  // namespace rankwise
