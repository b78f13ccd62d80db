// A device of PyTorch's own making for tests: another one than the CPU to autograd, its memory and arithmetic the CPU's.
// What a GPU would refuse (tensors of two devices in one operator, numbers read where they are not) is refused here as well.
// After PyTorch's test/cpp_extensions/open_registration_extension.cpp.
#include <torch/library.h>
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace {
constexpr auto kDevice = c10::DeviceType::PrivateUse1;
struct HostMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override { void* p = c10::alloc_cpu(n); return {p, p, &c10::free_cpu, c10::Device(kDevice, 0)}; }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, std::size_t n) const override { default_copy_data(to, from, n); }
};
HostMemory memory;
REGISTER_ALLOCATOR(kDevice, &memory);
struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = kDevice;
  static c10::Device only() { return c10::Device(kDevice, 0); }
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, only()); }
  c10::DeviceType type() const override { return kDevice; }
  c10::Device exchangeDevice(c10::Device) const override { return only(); }
  c10::Device getDevice() const override { return only(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);
struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isAvailable() const override { return true; }
};
Hooks hooks;
const bool known = (at::RegisterPrivateUse1HooksInterface(&hooks), true);
const c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, keys, c10::dtype_or_default(dtype), format);
}
at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, keys, c10::dtype_or_default(dtype));
}
at::Tensor here(const at::Tensor& t) {  // the same numbers as a tensor of the CPU
  if (t.device().is_cpu()) return t;
  return at::from_blob(const_cast<void*>(t.const_data_ptr()), t.sizes(), t.strides(), t.options().device(at::kCPU).requires_grad(false));
}
at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) { at::NoGradGuard g; here(to).copy_(here(from)); return to; }
at::Tensor as_strided(const at::Tensor& t, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) { return at::native::as_strided_tensorimpl(t, size, stride, offset); }
at::Tensor view(const at::Tensor& t, at::IntArrayRef size) { return at::native::view(t, size); }
at::Tensor alias(const at::Tensor& t, at::IntArrayRef size, at::IntArrayRef stride) { return at::native::_reshape_alias(t, size, stride); }
at::Tensor unfold(const at::Tensor& t, int64_t d, int64_t s, int64_t step) { return at::native::unfold(t, d, s, step); }
void resized(const at::Tensor& t, at::IntArrayRef size) {
  auto fresh = at::empty(size, t.options());
  t.unsafeGetTensorImpl()->set_storage_keep_dtype(fresh.storage());
  t.unsafeGetTensorImpl()->set_sizes_contiguous(size);
}
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) resized(to, from.sizes());
  return copy_from(from, to, false);
}
const at::Tensor& resize_(const at::Tensor& t, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  if (t.sizes() != size) resized(t, size);
  return t;
}
at::Tensor there(const at::Tensor& t) { return t.defined() ? t.to(c10::Device(kDevice, 0)) : t; }
std::optional<at::Tensor> here_if(const std::optional<at::Tensor>& t) { return t.has_value() && t->defined() ? std::optional<at::Tensor>(here(*t)) : std::nullopt; }
at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& b, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef outputs, int64_t groups) {
  return there(at::convolution(here(x), here(w), here_if(b), stride, padding, dilation, transposed, outputs, groups));
}
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(const at::Tensor& g, const at::Tensor& x, const at::Tensor& w, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef outputs, int64_t groups, std::array<bool, 3> wanted) {
  auto made = at::convolution_backward(here(g), here(x), here(w), at::OptionalIntArrayRef(std::vector<int64_t>{w.size(transposed ? 1 : 0) * (transposed ? groups : 1)}), stride, padding, dilation, transposed, outputs, groups, wanted);
  return {there(std::get<0>(made)), there(std::get<1>(made)), there(std::get<2>(made))};
}
void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { at::native::cpu_fallback(op, stack); }
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty); m.impl("empty_strided", &empty_strided); m.impl("_copy_from", &copy_from);
  m.impl("as_strided", &as_strided); m.impl("view", &view); m.impl("_reshape_alias", &alias); m.impl("unfold", &unfold); m.impl("_copy_from_and_resize", &copy_from_and_resize); m.impl("resize_", &resize_); m.impl("convolution_overrideable", &convolution); m.impl("convolution_backward_overrideable", &convolution_backward);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

