// SPDX-License-Identifier: Apache-2.0
#include "backend/models/certify_runners.h"
#include "backend/models/decoder.h"
#include "backend/models/flow_matching.h"
#include "backend/models/kernels.h"
#include "backend/models/token_blocks.h"
#include "backend/tensor/tensor_file.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <ATen/ops/tensor.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

namespace {

/// [[1, 0], [0, 1]] as a tensor of int64.
at::Tensor matrixOf(const Json& rows)
{
    std::vector<std::int64_t> flat;
    for (const Json& row : rows) {
        for (const Json& value : row) {
            flat.push_back(value.get<std::int64_t>());
        }
    }
    return at::tensor(flat, at::TensorOptions(at::kLong)).view({ static_cast<std::int64_t>(rows.size()), -1 });
}

class PrimitiveRunner {
public:
    PrimitiveRunner(const Json& description, const tensor::TensorMap& tensors) : m_case(description), m_tensors(tensors)
    {
        m_relative = description.at("tolerance").at("rtol").get<double>();
        m_absolute = description.at("tolerance").at("atol").get<double>();
    }

    CertifyReport run()
    {
        timeEmbeddings();
        ropes();
        masks();
        widths();
        eulers();
        return std::move(m_report);
    }

private:
    const at::Tensor& stored(const std::string& name) const { return m_tensors.at(name); }

    void compare(const std::string& name, const at::Tensor& ours, const at::Tensor& theirs)
    {
        compareTensors(m_report, name, ours, theirs, m_relative, m_absolute);
    }

    void timeEmbeddings()
    {
        for (const Json& row : m_case.value("time_embedding", Json::array())) {
            const auto width = row.at("dim").get<std::int64_t>();
            const std::string name = fmt::format("time_embedding.{}", width);
            compare(name,
                    timeEmbedding(stored(name + ".time"), width, row.at("min_period").get<double>(),
                                  row.at("max_period").get<double>()),
                    stored(name + ".out"));
        }
    }

    void ropes()
    {
        const std::size_t count = m_case.value("rope", Json::array()).size();
        for (std::size_t i = 0; i < count; ++i) {
            const at::Tensor& in = stored(fmt::format("rope.{}.in", i)); // [B, S, H, d]
            const RopeTable table = ropeTable(stored(fmt::format("rope.{}.positions", i)), in.size(3));
            const at::Tensor rotated = splitHeads(in.flatten(2), in.size(3), &table); // [B, H, S, d]
            compare(fmt::format("rope.{}", i), rotated.transpose(1, 2), stored(fmt::format("rope.{}.out", i)));
        }
    }

    void masks()
    {
        const Json rows = m_case.value("attention_masks", Json::array());
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const at::Tensor valid = matrixOf(rows[i].at("pad_mask")).to(at::kBool);
            const at::Tensor flags = matrixOf(rows[i].at("block_flags"));
            compareTensors(m_report, fmt::format("mask.{}", i), blockMask(valid, flags),
                           stored(fmt::format("mask.{}.out", i)), 0);
            compareTensors(m_report, fmt::format("mask.{}.position_ids", i), positionIds(valid),
                           matrixOf(rows[i].at("position_ids")), 0);
        }
    }

    void widths()
    {
        for (const Json& row : m_case.value("expert_mlp_width", Json::array())) {
            const auto width = row.at("width").get<std::int64_t>();
            compareNumber(m_report, fmt::format("expert_mlp_width.{}", width),
                          static_cast<double>(expertMlpWidth(width)), row.at("mlp").get<double>(), 0);
        }
    }

    void eulers()
    {
        for (const Json& row : m_case.value("euler", Json::array())) {
            const auto steps = row.at("steps").get<std::int64_t>();
            const std::string name = fmt::format("euler.{}", steps);
            const at::Tensor data = stored(name + ".data");
            std::vector<double> times;
            const at::Tensor out = integrateFlow(stored(name + ".noise"), steps, [&](const at::Tensor& x, double time) {
                times.push_back(time);
                return (x - data) * (0.5 + time);
            });
            compare(name, out, stored(name + ".out"));
            compareTensors(m_report, name + ".times", at::tensor(times, at::TensorOptions(at::kDouble)),
                           at::tensor(row.at("times").get<std::vector<double>>(), at::TensorOptions(at::kDouble)), 0);
        }
    }

    const Json& m_case;
    const tensor::TensorMap& m_tensors;
    double m_relative = 0;
    double m_absolute = 0;
    CertifyReport m_report;
};

} // namespace

Result<CertifyReport> certifyPrimitives(const std::filesystem::path& folder, const Json& caseJson,
                                        const CertifyOptions&, const JobContext&)
{
    RW_TRY(const tensor::TensorMap tensors, tensor::loadTensors(folder / "tensors.safetensors"));
    try {
        return PrimitiveRunner(caseJson, tensors).run();
    } catch (const nlohmann::json::exception& error) {
        return rankwise::fail(Errc::FieldInvalid, error.what(), (folder / "case.json").string());
    } catch (const std::out_of_range& error) {
        return rankwise::fail(Errc::TensorNotFound, error.what(), (folder / "tensors.safetensors").string());
    }
}

} // namespace rankwise::models
