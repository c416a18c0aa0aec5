#include "ops/registry.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "graph/error.hpp"

namespace mxpipe {
namespace {

using Table = std::map<std::string, std::unique_ptr<OpSchema>, std::less<>>;

Table& table() {
  static Table registered;  // filled while the library loads
  return registered;
}

// The value as the declared type, or nothing when it cannot be.
std::optional<Attribute> coerce(const Attribute& value, AttributeType type) {
  if (type_of(value) == type) return value;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    if (type == AttributeType::real) return Attribute(static_cast<double>(*integer));
    if (type == AttributeType::integers) return Attribute(Integers{*integer});
  }
  if (const auto* flag = std::get_if<bool>(&value)) {
    if (type == AttributeType::integer) return Attribute(static_cast<std::int64_t>(*flag));
    if (type == AttributeType::real) return Attribute(*flag ? 1.0 : 0.0);
  }
  if (const auto* name = std::get_if<std::string>(&value)) {
    if (type == AttributeType::dtype) return Attribute(dtype_from_name(*name));
  }
  return std::nullopt;
}

void check_input_count(const OpSchema& op, std::size_t got) {
  const bool variadic = !op.inputs.empty() && op.inputs.back().variadic;
  const auto optional = [](const InputSchema& input) { return input.optional; };
  const std::size_t most = op.inputs.size();
  const std::size_t least =
      most - static_cast<std::size_t>(std::count_if(op.inputs.begin(), op.inputs.end(), optional));
  require(got >= least && (variadic || got <= most), op.name, "must be called with ", least,
          variadic ? " or more" : (least == most ? "" : text(" to ", most)), " arrays; got ", got, ".");
}

Bytes scalar_bytes(double value, DType dtype) {
  Bytes bytes(size_of(dtype));
  const auto put = [&](auto typed) { std::memcpy(bytes.data(), &typed, sizeof(typed)); };
  switch (dtype) {
    case DType::float32:
      put(static_cast<float>(value));
      break;
    case DType::float64:
      put(value);
      break;
    case DType::int8:
      put(static_cast<std::int8_t>(value));
      break;
    case DType::int16:
      put(static_cast<std::int16_t>(value));
      break;
    case DType::int32:
      put(static_cast<std::int32_t>(value));
      break;
    case DType::int64:
      put(static_cast<std::int64_t>(value));
      break;
    case DType::uint8:
      put(static_cast<std::uint8_t>(value));
      break;
    case DType::uint16:
      put(static_cast<std::uint16_t>(value));
      break;
    case DType::uint32:
      put(static_cast<std::uint32_t>(value));
      break;
    case DType::uint64:
      put(static_cast<std::uint64_t>(value));
      break;
    case DType::boolean:
      put(static_cast<std::uint8_t>(value != 0));
      break;
    case DType::float16:
    case DType::bfloat16:
      fail(ErrorKind::internal, "constant", "16-bit floats are made by a cast.");
  }
  return bytes;
}

}  // namespace

OpRegistration::OpRegistration(OpSchema schema) {
  auto owned = std::make_unique<OpSchema>(std::move(schema));
  const std::string name = owned->name;
  const bool fresh = table().emplace(name, std::move(owned)).second;
  if (!fresh) fail(ErrorKind::internal, name, "an op must be declared once.");
}

const OpSchema* find_op(std::string_view name) {
  const auto found = table().find(name);
  return found == table().end() ? nullptr : found->second.get();
}

const OpSchema& op_schema(std::string_view name) {
  const OpSchema* op = find_op(name);
  require(op != nullptr, "op", "the op must be registered; got ", name, ".");
  return *op;
}

std::vector<const OpSchema*> all_ops() {
  std::vector<const OpSchema*> ops;
  for (const auto& entry : table()) ops.push_back(entry.second.get());
  return ops;
}

Attributes complete_attributes(const OpSchema& op, const Attributes& given) {
  for (const auto& [name, value] : given.entries()) {
    const bool known = std::any_of(
        op.attributes.begin(), op.attributes.end(),
        [&, wanted = std::string_view(name)](const AttributeSchema& a) { return a.name == wanted; });
    require(known, op.name, "attributes must be declared ones; got ", name, ".");
  }
  Attributes complete;
  for (const AttributeSchema& schema : op.attributes) {
    const Attribute* value = given.find(schema.name);
    if (!value) {
      require(schema.default_value.has_value(), op.name, "attribute ", schema.name, " must be given.");
      complete.set(schema.name, *schema.default_value);
      continue;
    }
    std::optional<Attribute> typed = coerce(*value, schema.type);
    require(typed.has_value(), op.name, "attribute ", schema.name, " must be of type ", name_of(schema.type),
            "; got ", *value, " of type ", name_of(type_of(*value)), ".");
    complete.set(schema.name, std::move(*typed));
  }
  return complete;
}

Node make_node(const OpSchema& op, std::vector<Value> inputs, std::span<const TensorType> types,
               const Attributes& given) {
  check_input_count(op, types.size());
  Node node;
  node.op = &op;
  node.attributes = complete_attributes(op, given);
  node.inputs = std::move(inputs);
  node.outputs = op.infer(types, node.attributes);
  return node;
}

std::vector<Value> GraphBuilder::call_all(std::string_view op, std::vector<Value> inputs,
                                          Attributes attributes) {
  std::vector<TensorType> types;
  for (const Value input : inputs) types.push_back(graph_.type(input));
  Node node = make_node(op_schema(op), std::move(inputs), types, attributes);
  const auto count = static_cast<std::int32_t>(node.outputs.size());
  const Value first = graph_.add_op(std::move(node));
  std::vector<Value> outputs;
  for (std::int32_t output = 0; output < count; ++output) outputs.push_back({first.node, output});
  return outputs;
}

Value GraphBuilder::scalar(double value, DType dtype) {
  if (dtype == DType::float16 || dtype == DType::bfloat16) {
    return call("cast", {scalar(value, DType::float32)}, {{"dtype", dtype}});
  }
  return graph_.add_constant({dtype, Shape{}}, scalar_bytes(value, dtype));
}

Value Builder::zeros(const TensorType& type) {
  return call("full", {}, {{"shape", type.shape.to_vector()}, {"value", 0.0}, {"dtype", type.dtype}});
}

Value Builder::sum_to(Value value, const Shape& shape) {
  const Shape from = type(value).shape;
  if (from == shape) return value;
  const int added = from.rank() - shape.rank();
  Integers axes;
  for (int axis = 0; axis < from.rank(); ++axis) {
    if (axis < added || (shape[axis - added] == 1 && from[axis] != 1)) axes.push_back(axis);
  }
  if (!axes.empty()) value = call("sum", {value}, {{"axis", axes}, {"keepdims", false}});
  return type(value).shape == shape ? value : call("reshape", {value}, {{"shape", shape.to_vector()}});
}

}  // namespace mxpipe
