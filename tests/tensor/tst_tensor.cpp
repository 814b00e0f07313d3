// Tensors in files: no copies, no changes to the file, every dtype, memory within bounds.
// SPDX-License-Identifier: Apache-2.0
#include "backend/tensor/tensor_file.h"
#include "backend/tensor/tensor_hash.h"

#include "backend/base/file.h"
#include "backend/io/safetensors_writer.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>

namespace {

using namespace rankwise;
using namespace rankwise::tensor;
namespace fs = std::filesystem;

/// A folder that goes away with the test.
class TensorFiles : public testing::Test {
protected:
    TensorFiles()
    {
        std::string pattern = (fs::temp_directory_path() / "tst_tensor_XXXXXX").string();
        m_folder = mkdtemp(pattern.data());
    }
    ~TensorFiles() override
    {
        std::error_code error;
        fs::remove_all(m_folder, error);
    }
    [[nodiscard]] fs::path file(const std::string& name) const { return m_folder / name; }

    fs::path m_folder;
};

std::string bytesOf(const fs::path& path)
{
    std::ifstream stream(path, std::ios::binary);
    return { std::istreambuf_iterator<char>(stream), {} };
}

/// Resident memory of this process in bytes.
std::size_t residentBytes()
{
    std::ifstream stream("/proc/self/statm");
    std::size_t total = 0;
    std::size_t resident = 0;
    stream >> total >> resident;
    return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST_F(TensorFiles, everyDtypeComesBackBitForBit)
{
    NamedTensors tensors;
    const at::Tensor numbers = at::arange(0, 24, at::TensorOptions(at::kFloat)).view({ 2, 3, 4 }) - 7;
    for (const at::ScalarType type : { at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf,
                                       at::kBFloat16, at::kFloat, at::kDouble, at::kComplexFloat, at::kFloat8_e5m2,
                                       at::kFloat8_e4m3fn, at::kUInt16, at::kUInt32, at::kUInt64 }) {
        tensors.emplace_back("t." + std::string(c10::toString(type)), numbers.abs().to(type));
    }
    tensors.emplace_back("scalar", at::full({}, 2.5));
    tensors.emplace_back("empty", at::empty({ 0, 5 }));
    ASSERT_TRUE(saveTensors(file("a.safetensors"), tensors, { { "format", "pt" } }));

    const auto read = TensorFile::open(file("a.safetensors"));
    ASSERT_TRUE(read.has_value()) << read.error().describe();
    EXPECT_EQ(read->names().size(), tensors.size());
    EXPECT_EQ(read->metadata().at("format"), "pt");
    for (const auto& [name, value] : tensors) {
        const auto back = read->tensor(name);
        ASSERT_TRUE(back.has_value()) << name;
        EXPECT_EQ(back->scalar_type(), value.scalar_type()) << name;
        EXPECT_EQ(back->sizes(), value.sizes()) << name;
        EXPECT_EQ(sha256OfTensor(*back), sha256OfTensor(value)) << name;
    }
}

TEST_F(TensorFiles, tensorsAreViewsThatOutliveTheFileObject)
{
    const at::Tensor value = at::randn({ 64, 64 });
    ASSERT_TRUE(saveTensors(file("a.safetensors"), NamedTensors { { "w", value } }));
    at::Tensor first;
    at::Tensor second;
    {
        const auto read = TensorFile::open(file("a.safetensors"));
        ASSERT_TRUE(read.has_value());
        first = *read->tensor("w");
        second = *read->tensor("w");
    }
    EXPECT_EQ(first.const_data_ptr(), second.const_data_ptr());
    EXPECT_TRUE(at::equal(first, value));
}

TEST_F(TensorFiles, writingToATensorLeavesTheFileAlone)
{
    ASSERT_TRUE(saveTensors(file("a.safetensors"), NamedTensors { { "w", at::ones({ 1000 }) } }));
    const std::string before = bytesOf(file("a.safetensors"));
    auto tensors = loadTensors(file("a.safetensors"));
    ASSERT_TRUE(tensors.has_value());
    tensors->at("w").fill_(7);
    EXPECT_EQ(tensors->at("w").sum().item<float>(), 7000.0F);
    EXPECT_EQ(bytesOf(file("a.safetensors")), before);
    EXPECT_EQ(loadTensors(file("a.safetensors"))->at("w").sum().item<float>(), 1000.0F);
}

TEST_F(TensorFiles, misalignedTensorsAreCopied)
{
    // A header whose length leaves the data on an odd address, as only hand-made files have it.
    const std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} )";
    std::string text;
    const std::uint64_t length = header.size();
    ASSERT_NE(length % 4, 0U);
    text.append(reinterpret_cast<const char*>(&length), sizeof length);
    text += header;
    const float values[2] = { 1.5F, -2.0F };
    text.append(reinterpret_cast<const char*>(values), sizeof values);
    ASSERT_TRUE(writeFileAtomically(file("odd.safetensors"), text));
    const auto tensors = loadTensors(file("odd.safetensors"));
    ASSERT_TRUE(tensors.has_value()) << tensors.error().describe();
    EXPECT_TRUE(at::equal(tensors->at("w"), at::tensor({ 1.5F, -2.0F })));
}

TEST_F(TensorFiles, anyLayoutIsSavedRowMajor)
{
    const at::Tensor value = at::randn({ 5, 7 });
    ASSERT_TRUE(saveTensors(
        file("a.safetensors"),
        NamedTensors { { "t", value.t() }, { "slice", value.narrow(1, 2, 3) }, { "row", value[1].expand({ 4, 7 }) } }));
    const auto tensors = loadTensors(file("a.safetensors"));
    ASSERT_TRUE(tensors.has_value());
    EXPECT_TRUE(at::equal(tensors->at("t"), value.t()));
    EXPECT_TRUE(at::equal(tensors->at("slice"), value.narrow(1, 2, 3)));
    EXPECT_TRUE(at::equal(tensors->at("row"), value[1].expand({ 4, 7 })));
}

TEST_F(TensorFiles, errorsAreTyped)
{
    EXPECT_EQ(TensorFile::open(file("none.safetensors")).error().code, Errc::FileNotFound);
    ASSERT_TRUE(saveTensors(file("a.safetensors"), NamedTensors { { "w", at::zeros({ 1 }) } }));
    EXPECT_EQ(TensorFile::open(file("a.safetensors"))->tensor("v").error().code, Errc::TensorNotFound);
    EXPECT_EQ(saveTensors(file("b.safetensors"), NamedTensors { { "w", at::zeros({ 1 }) }, { "w", at::ones({ 1 }) } })
                  .error()
                  .code,
              Errc::AlreadyExists);
    EXPECT_EQ(saveTensors(file("b.safetensors"), NamedTensors { { "w", at::zeros({ 1 }).to(at::kComplexDouble) } })
                  .error()
                  .code,
              Errc::Unsupported);
    EXPECT_FALSE(fs::exists(file("b.safetensors")));
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(
        saveTensors(file("b.safetensors"), NamedTensors { { "w", at::zeros({ 1 }) } }, {}, { .stop = stop.get_token() })
            .error()
            .code,
        Errc::Cancelled);
    EXPECT_FALSE(fs::exists(file("b.safetensors")));
}

TEST_F(TensorFiles, shardsOpenAsOne)
{
    std::map<std::string, io::TensorView> views;
    const at::Tensor a = at::randn({ 256 });
    const at::Tensor b = at::randn({ 128 });
    const auto view = [](const at::Tensor& t) {
        return io::TensorView { .dtype = io::Dtype::F32,
                                .shape = t.sizes().vec(),
                                .bytes = { static_cast<const std::byte*>(t.const_data_ptr()),
                                           static_cast<std::size_t>(t.nbytes()) } };
    };
    views.emplace("a", view(a));
    views.emplace("b", view(b));
    const auto written = io::writeSharded(m_folder, "model", views, 1024);
    ASSERT_TRUE(written.has_value());
    ASSERT_GT(written->size(), 2U);
    const auto tensors = loadTensors(m_folder);
    ASSERT_TRUE(tensors.has_value()) << tensors.error().describe();
    EXPECT_TRUE(at::equal(tensors->at("a"), a));
    EXPECT_TRUE(at::equal(tensors->at("b"), b));
}

TEST_F(TensorFiles, loadingCostsNoMemoryAndReadingAllOfItCostsTheFile)
{
    constexpr std::int64_t kCount = 16;
    constexpr std::int64_t kEach = 1 << 20; // 4 MiB of f32
    {
        NamedTensors tensors;
        for (std::int64_t i = 0; i < kCount; ++i) {
            tensors.emplace_back("w." + std::to_string(i), at::full({ kEach }, static_cast<double>(i)));
        }
        ASSERT_TRUE(saveTensors(file("big.safetensors"), tensors));
    }
    const auto size = static_cast<double>(fs::file_size(file("big.safetensors")));
    const std::size_t before = residentBytes();
    const auto start = std::chrono::steady_clock::now();
    const auto tensors = loadTensors(file("big.safetensors"));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    ASSERT_TRUE(tensors.has_value());
    EXPECT_LT(static_cast<double>(residentBytes() - before), 0.1 * size);
    EXPECT_LT(took.count(), 0.5) << "mapping must not read the data";
    double sum = 0;
    for (const auto& [name, value] : *tensors) {
        sum += value.sum().item<double>();
    }
    EXPECT_EQ(sum, static_cast<double>(kEach) * 120);
    EXPECT_LT(static_cast<double>(residentBytes() - before), 1.1 * size);
}

TEST(TensorHash, knownValues)
{
    EXPECT_EQ(sha256OfTensor(at::zeros({ 0 })), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    const at::Tensor abc = at::tensor({ 97, 98, 99 }, at::TensorOptions(at::kByte));
    EXPECT_EQ(sha256OfTensor(abc), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(TensorHash, aStateDictsDigestSeesNamesShapesTypesAndValues)
{
    const auto digest = [](const TensorMap& tensors) { return *sha256OfTensors(tensors); };
    const at::Tensor w = at::ones({ 2, 3 });
    const std::string base = digest({ { "w", w } });
    EXPECT_EQ(digest({ { "w", w.clone() } }), base);
    EXPECT_NE(digest({ { "v", w } }), base);
    EXPECT_NE(digest({ { "w", w.view({ 3, 2 }) } }), base);
    EXPECT_NE(digest({ { "w", w.view(at::kInt) } }), base);
    EXPECT_NE(digest({ { "w", w + 1 } }), base);
    EXPECT_EQ(hashTensors({ { "w", w } })->at("w"), sha256OfTensor(w));
}

} // namespace
