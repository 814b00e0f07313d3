// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/adapter_random.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <mutex>

#include <ATen/TensorOperators.h>

namespace rankwise::adapters {

struct AdapterRandom::Generators {
    at::Generator cpu;
    at::Generator device;   ///< Of the first accelerator that dropout met.
    at::Tensor deviceState; ///< Restored before the device was met.
};

AdapterRandom::AdapterRandom(std::uint64_t seed) : m_generators(std::make_unique<Generators>()), m_seed(seed)
{
    m_generators->cpu = at::detail::createCPUGenerator(seed);
}

AdapterRandom::~AdapterRandom() = default;

at::Tensor AdapterRandom::dropout(const at::Tensor& x, double p)
{
    if (p <= 0) {
        return x;
    }
    at::Generator* generator = &m_generators->cpu;
    if (!x.device().is_cpu()) {
        generator = &m_generators->device;
        if (!generator->defined()) {
            *generator =
                at::globalContext().getAcceleratorHooksInterface(x.device().type()).getNewGenerator(x.device().index());
            generator->set_current_seed(m_seed);
            if (m_generators->deviceState.defined()) {
                generator->set_state(m_generators->deviceState);
            }
        }
    }
    at::Tensor mask = at::empty_like(x.detach(), x.options().requires_grad(false));
    mask.bernoulli_(1 - p, *generator).div_(1 - p);
    return x * mask;
}

at::Tensor AdapterRandom::uniform(std::int64_t rows, std::int64_t columns, double bound, at::ScalarType type)
{
    at::Tensor values = at::empty({ rows, columns }, at::TensorOptions().dtype(at::kDouble));
    return values.uniform_(-bound, bound, m_generators->cpu).to(type);
}

at::Tensor AdapterRandom::normal(std::int64_t rows, std::int64_t columns, double deviation, at::ScalarType type)
{
    at::Tensor values = at::empty({ rows, columns }, at::TensorOptions().dtype(at::kDouble));
    return values.normal_(0, deviation, m_generators->cpu).to(type);
}

std::uint64_t AdapterRandom::draw()
{
    const std::lock_guard lock(m_generators->cpu.mutex());
    return at::check_generator<at::CPUGeneratorImpl>(m_generators->cpu)->random64();
}

at::Tensor AdapterRandom::state() const
{
    at::Tensor cpu = m_generators->cpu.get_state();
    at::Tensor device = m_generators->deviceState;
    if (m_generators->device.defined()) {
        device = m_generators->device.get_state();
    }
    return device.defined() ? at::cat({ cpu, device }) : cpu.clone();
}

Result<void> AdapterRandom::restore(const at::Tensor& state)
{
    const std::int64_t length = m_generators->cpu.get_state().numel();
    if (state.scalar_type() != at::kByte || state.dim() != 1 || state.numel() < length) {
        return fail(Errc::DataInvalid, "is no state of the random generator", "rng");
    }
    const at::Tensor bytes = state.cpu().contiguous();
    try {
        m_generators->cpu.set_state(bytes.narrow(0, 0, length).clone());
        if (bytes.numel() > length) {
            m_generators->deviceState = bytes.narrow(0, length, bytes.numel() - length).clone();
            if (m_generators->device.defined()) {
                m_generators->device.set_state(m_generators->deviceState);
            }
        }
    } catch (const std::exception& error) {
        return fail(Errc::DataInvalid, std::string("is no state of the random generator: ") + error.what(), "rng");
    }
    return {};
}

} // namespace rankwise::adapters
