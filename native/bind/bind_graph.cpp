// Traces, graphs and compiled functions, and the registry as data.
#include <pybind11/functional.h>

#include <sstream>

#include "bind/convert.hpp"
#include "exec/compiled.hpp"
#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "ops/graph_text.hpp"

namespace mxpipe::bind {
namespace {

// Makes `trace` current for a scope, whatever way it ends.
class TraceScope {
 public:
  explicit TraceScope(std::shared_ptr<Trace> trace) : previous_(Trace::current()) {
    Trace::set_current(std::move(trace));
  }
  ~TraceScope() { Trace::set_current(previous_); }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  std::shared_ptr<Trace> previous_;
};

// `with _core.SuspendTrace():` - ops compute at once although a trace is under way (deferred initialization).
class SuspendTrace {
 public:
  void enter() { scope_ = std::make_unique<TraceScope>(nullptr); }
  void exit() { scope_.reset(); }

 private:
  std::unique_ptr<TraceScope> scope_;
};

std::vector<ArrayPtr> to_array_list(py::handle result) {
  if (py::isinstance<Array>(result)) return {result.cast<ArrayPtr>()};
  require(py::isinstance<py::sequence>(result), "trace",
          "the function must return an array or a flat tuple of arrays; got ",
          py::str(py::type::handle_of(result)).cast<std::string>(), ".");
  return result.cast<std::vector<ArrayPtr>>();
}

std::shared_ptr<Compiled> trace(const py::function& function, const std::vector<ArrayPtr>& arguments,
                                bool training) {
  auto trace = std::make_shared<Trace>();
  py::tuple stand_ins(arguments.size());
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    stand_ins[i] = py::cast(trace->add_argument(arguments[i]->type(), text("argument", i)));
  }
  const bool was_training = set_training(training);
  const bool was_recording = set_recording(false);
  try {
    const TraceScope scope(trace);
    TracedGraph traced = trace->finish(to_array_list(function(*stand_ins)));
    set_training(was_training);
    set_recording(was_recording);
    return std::make_shared<Compiled>(std::move(traced));
  } catch (...) {
    set_training(was_training);
    set_recording(was_recording);
    throw;
  }
}

// --------------------------------------------------------------------------------------------- graphs as
// JSON

py::object json() { return py::module_::import("json"); }
py::object base64() { return py::module_::import("base64"); }

py::list to_python(Value value) {
  py::list pair;
  pair.append(value.node);
  pair.append(value.output);
  return pair;
}

py::dict to_python(const TensorType& type) {
  py::dict result;
  result["dtype"] = std::string(name_of(type.dtype));
  result["shape"] = type.shape.to_vector();
  return result;
}

py::dict node_to_python(const Node& node) {
  py::dict result;
  if (node.kind == NodeKind::input) {
    result["input"] = node.name;
    result["type"] = to_python(node.outputs[0]);
  } else if (node.kind == NodeKind::constant) {
    const py::bytes bytes(reinterpret_cast<const char*>(node.constant->data()), node.constant->size());
    result["constant"] = base64().attr("b64encode")(bytes).attr("decode")("ascii");
    result["type"] = to_python(node.outputs[0]);
  } else {
    if (!node.op) fail(ErrorKind::graph, "to_json", "only a graph that was not optimized can be written.");
    result["op"] = node.op->name;
    py::list inputs;
    for (const Value input : node.inputs) inputs.append(to_python(input));
    result["inputs"] = inputs;
    py::dict attributes;
    for (const auto& [name, value] : node.attributes.entries()) {
      py::object held = bind::to_python(value);
      // JSON has no infinity: spelled out, and read back where a real is declared.
      if (py::isinstance<py::float_>(held) && !std::isfinite(held.cast<double>())) held = py::str(held);
      attributes[py::str(name)] = held;
    }
    result["attributes"] = attributes;
  }
  return result;
}

std::string graph_to_json(const Graph& graph) {
  py::dict document;
  document["format"] = "mxpipe.graph";
  document["version"] = 1;
  py::list nodes, outputs;
  for (const Node& node : graph.nodes) nodes.append(node_to_python(node));
  for (const Value output : graph.outputs) outputs.append(to_python(output));
  document["nodes"] = nodes;
  document["inputs"] = graph.inputs;
  document["outputs"] = outputs;
  if (!graph.updates.empty())
    fail(ErrorKind::graph, "to_json", "a graph that updates captured arrays cannot be written.");
  return py::str(json().attr("dumps")(document, py::arg("separators") = py::make_tuple(",", ":")));
}

// Reads one field, or says which one is missing or mistyped.
template <typename T>
T field(py::handle document, const char* name, const std::string& where) {
  const bool is_object = py::isinstance<py::dict>(document);
  if (!is_object || !document.contains(name))
    fail(ErrorKind::graph, where, "field ", name, " must be present.");
  try {
    return document[name].cast<T>();
  } catch (const py::cast_error&) {
    fail(ErrorKind::graph, where, "field ", name, " has a wrong type.");
  }
}

TensorType type_from_python(py::handle document, const std::string& where) {
  TensorType type{dtype_from_name(field<std::string>(document, "dtype", where), where),
                  Shape(field<Integers>(document, "shape", where))};
  for (const std::int64_t dim : type.shape) {
    if (dim < 0) fail(ErrorKind::graph, where, "field shape must hold no negative number; got ", dim, ".");
  }
  static_cast<void>(type.size());  // throws when it overflows
  return type;
}

Value value_from_python(const std::vector<std::int32_t>& pair, const Graph& graph, const std::string& where) {
  if (pair.size() != 2) fail(ErrorKind::graph, where, "a value must be [node, output].");
  const Value value{pair[0], pair[1]};
  const bool exists = value.node >= 0 && static_cast<std::size_t>(value.node) < graph.nodes.size() &&
                      value.output >= 0 &&
                      static_cast<std::size_t>(value.output) < graph.node(value).outputs.size();
  if (!exists)
    fail(ErrorKind::graph, where, "a value must be made before it is read; got [", pair[0], ", ", pair[1],
         "].");
  return value;
}

py::dict restore_infinities(const OpSchema& op, const py::dict& attributes) {
  for (const AttributeSchema& schema : op.attributes) {
    if (schema.type != AttributeType::real || !attributes.contains(schema.name)) continue;
    const py::object held = attributes[py::str(schema.name)];
    if (py::isinstance<py::str>(held)) attributes[py::str(schema.name)] = py::float_(held);
  }
  return attributes;
}

void add_op_from_python(Graph& graph, py::handle document, const std::string& where) {
  const auto name = field<std::string>(document, "op", where);
  const OpSchema* op = find_op(name);
  if (!op) fail(ErrorKind::graph, where, "field op must name a registered op; got ", name, ".");
  std::vector<Value> inputs;
  std::vector<TensorType> types;
  for (const auto& pair : field<std::vector<std::vector<std::int32_t>>>(document, "inputs", where)) {
    inputs.push_back(value_from_python(pair, graph, where));
    types.push_back(graph.type(inputs.back()));
  }
  const py::dict attributes = restore_infinities(*op, field<py::dict>(document, "attributes", where));
  graph.add_op(make_node(*op, std::move(inputs), types, to_attributes(*op, attributes)));
}

void add_constant_from_python(Graph& graph, py::handle document, const std::string& where) {
  const TensorType type = type_from_python(field<py::dict>(document, "type", where), where);
  const std::string raw =
      base64().attr("b64decode")(field<std::string>(document, "constant", where)).cast<std::string>();
  if (raw.size() != type.bytes())
    fail(ErrorKind::graph, where, "field constant must hold ", type.bytes(), " bytes; got ", raw.size(), ".");
  const auto* begin = reinterpret_cast<const std::byte*>(raw.data());
  graph.add_constant(type, Bytes(begin, begin + raw.size()));
}

Graph graph_from_json(const std::string& content) {
  const py::object document = json().attr("loads")(content);
  if (field<std::string>(document, "format", "graph") != "mxpipe.graph" ||
      field<int>(document, "version", "graph") != 1) {
    fail(ErrorKind::graph, "graph", "fields format and version must be mxpipe.graph and 1.");
  }
  Graph graph;
  for (const py::handle entry : field<py::list>(document, "nodes", "graph")) {
    const std::string where = text("graph node ", graph.nodes.size());
    if (entry.contains("op")) {
      add_op_from_python(graph, entry, where);
    } else if (entry.contains("constant")) {
      add_constant_from_python(graph, entry, where);
    } else {
      Node node;
      node.kind = NodeKind::input;
      node.name = field<std::string>(entry, "input", where);
      node.outputs.push_back(type_from_python(field<py::dict>(entry, "type", where), where));
      graph.add_op(std::move(node));
    }
  }
  graph.inputs = field<std::vector<std::int32_t>>(document, "inputs", "graph");
  for (const auto& pair : field<std::vector<std::vector<std::int32_t>>>(document, "outputs", "graph")) {
    graph.outputs.push_back(value_from_python(pair, graph, "graph outputs"));
  }
  verify(graph);
  return graph;
}

// ------------------------------------------------------------------------------------------------------ the
// rest

py::list describe_values(const Graph& graph, const std::vector<Value>& values) {
  py::list result;
  for (const Value value : values) {
    const TensorType& type = graph.type(value);
    result.append(
        py::make_tuple(graph.node(value).name, bind::to_python(type.shape), bind::to_python(type.dtype)));
  }
  return result;
}

std::vector<Value> input_values(const Graph& graph) {
  std::vector<Value> values;
  for (const std::int32_t input : graph.inputs) values.push_back({input, 0});
  return values;
}

Graph retype_from_python(const Graph& graph, const std::vector<py::tuple>& types) {
  std::vector<TensorType> typed;
  for (const py::tuple& pair : types)
    typed.push_back({to_dtype(pair[1], "retype"), to_shape(pair[0], "retype")});
  return retype(graph, typed);
}

Graph rename_inputs(Graph graph, const std::vector<std::string>& names) {
  require(names.size() == graph.inputs.size(), "rename_inputs", "there must be one name an input, ",
          graph.inputs.size(), "; got ", names.size(), ".");
  for (std::size_t i = 0; i < names.size(); ++i)
    graph.nodes[static_cast<std::size_t>(graph.inputs[i])].name = names[i];
  return graph;
}

CompileOptions options_of(py::handle precision, bool fold, bool recompute) {
  CompileOptions options;
  options.fold = fold;
  options.recompute = recompute;
  options.precision = to_dtype(precision, "compile");
  const bool known = options.precision == DType::float32 || options.precision == DType::bfloat16;
  require(known, "compile", "precision must be float32 or bfloat16; got ", options.precision, ".");
  return options;
}

// Inputs at the positions of `captured` are given once, here; the others at every call, in order.
std::shared_ptr<Compiled> compile_graph(const Graph& graph, const std::map<std::size_t, ArrayPtr>& captured,
                                        py::handle precision, bool fold) {
  TracedGraph traced;
  traced.graph = graph;
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const auto found = captured.find(i);
    if (found == captured.end()) {
      traced.inputs.push_back({TracedGraph::Source::argument, traced.arguments++});
      continue;
    }
    traced.inputs.push_back({TracedGraph::Source::capture, traced.captures.size()});
    traced.captures.push_back(found->second);
  }
  return std::make_shared<Compiled>(std::move(traced), options_of(precision, fold, false));
}

py::object recompile(const py::object& self, py::handle precision, bool fold, bool recompute) {
  const auto& compiled = self.cast<const Compiled&>();
  const CompileOptions options = options_of(precision, fold, recompute);
  if (options == compiled.options()) return self;
  return py::cast(std::make_shared<Compiled>(compiled.traced(), options));
}

py::list describe_inputs(const Compiled& compiled) {
  static constexpr const char* kSources[] = {"argument", "capture", "key"};
  py::list result;
  for (const TracedGraph::Input& input : compiled.traced().inputs) {
    result.append(py::make_tuple(kSources[static_cast<std::size_t>(input.source)], input.index));
  }
  return result;
}

py::tuple run(const Compiled& compiled, const py::args& arguments) {
  const std::vector<ArrayPtr> arrays = to_inputs("compiled", arguments);
  std::vector<ArrayPtr> outputs;
  {
    const py::gil_scoped_release release;
    outputs = compiled.call(arrays);
  }
  py::tuple result(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) result[i] = py::cast(std::move(outputs[i]));
  return result;
}

// The graph after each pass, verified, as text.
py::list dump_passes(const Graph& graph, py::handle precision) {
  py::list result;
  const auto observe = [&](const PassDump& dump) {
    verify(dump.graph);
    std::ostringstream stream;
    stream << dump.graph;
    result.append(py::make_tuple(std::string(dump.name), stream.str()));
  };
  lower(transform(graph, options_of(precision, false, false), observe), observe);
  return result;
}

py::dict describe_op(const OpSchema& op) {
  py::list inputs, attributes;
  for (const InputSchema& input : op.inputs) {
    py::dict entry;
    entry["name"] = input.name;
    entry["doc"] = input.doc;
    entry["optional"] = input.optional;
    entry["variadic"] = input.variadic;
    inputs.append(entry);
  }
  for (const AttributeSchema& attribute : op.attributes) {
    py::dict entry;
    entry["name"] = attribute.name;
    entry["doc"] = attribute.doc;
    entry["type"] = std::string(name_of(attribute.type));
    if (attribute.default_value) entry["default"] = bind::to_python(*attribute.default_value);
    attributes.append(entry);
  }
  py::dict result;
  result["name"] = op.name;
  result["doc"] = op.doc;
  result["inputs"] = inputs;
  result["attributes"] = attributes;
  result["differentiable"] = static_cast<bool>(op.gradient);
  result["zero_gradient"] = op.zero_gradient;
  result["elementwise"] = static_cast<bool>(op.lower);
  result["view"] = op.view;
  result["random"] = op.random;
  result["in_place"] = op.in_place;
  return result;
}

void bind_graph_class(py::module_& module) {
  py::class_<Graph>(module, "Graph", "A graph of ops over typed values; made by trace() or from_json().")
      .def_property_readonly("inputs",
                             [](const Graph& graph) { return describe_values(graph, input_values(graph)); })
      .def_property_readonly("outputs",
                             [](const Graph& graph) { return describe_values(graph, graph.outputs); })
      .def("__len__", [](const Graph& graph) { return graph.nodes.size(); })
      .def("__str__",
           [](const Graph& graph) {
             std::ostringstream stream;
             stream << graph;
             return stream.str();
           })
      .def("to_json", &graph_to_json)
      .def_static("from_json", &graph_from_json, py::arg("text"))
      .def("retype", &retype_from_python, py::arg("types"),
           "The same graph for inputs of other (shape, dtype).")
      .def("rename_inputs", &rename_inputs, py::arg("names"))
      .def("passes", &dump_passes, py::arg("precision") = "float32",
           "(name, text) of the graph as traced and after each compiler pass.")
      .def("compile", &compile_graph, py::arg("captured") = py::dict(), py::arg("precision") = "float32",
           py::arg("fold") = false,
           "A CompiledFunction that takes one array an input but those that `captured` gives by position.");
}

template <std::string (Plan::*describe_plan)() const>
std::string describe(const Compiled& compiled) {
  std::string lines;
  for (const auto& plan : compiled.plans()) lines += (*plan.*describe_plan)();
  return lines;
}

void bind_compiled_class(py::module_& module) {
  // A trace and its compiled form are one object: plans are made at the first call.
  py::class_<Compiled, std::shared_ptr<Compiled>>(module, "CompiledFunction",
                                                  "A traced function; calling it runs its plan. Thread-safe.")
      .def("__call__", &run)
      .def("compile", &recompile, py::arg("precision") = "float32", py::arg("fold") = false,
           py::arg("recompute") = false,
           "This function for a precision: float32, or bfloat16 for matrix work and what lies between. With "
           "fold, what scales and shifts a layer's channels becomes part of its captured weight. With "
           "recompute, backward makes again what is cheap to make, and less memory is needed.")
      .def_property_readonly("graph", [](const Compiled& compiled) { return compiled.traced().graph; })
      .def_property_readonly("captures", [](const Compiled& compiled) { return compiled.traced().captures; })
      .def_property_readonly("sources", &describe_inputs,
                             "Where each graph input comes from: (argument|capture|key, index).")
      .def_property_readonly("arena_bytes",
                             [](const Compiled& compiled) { return compiled.report().arena_bytes; })
      .def("steps", &describe<&Plan::describe_steps>)
      .def("memory", &describe<&Plan::describe_memory>)
      .def("optimized", [](const Compiled& compiled) {
        std::ostringstream stream;
        for (const auto& plan : compiled.plans()) stream << plan->graph();
        return stream.str();
      });
  module.attr("Traced") = module.attr("CompiledFunction");
}

}  // namespace

void bind_graph(py::module_& module) {
  bind_graph_class(module);
  bind_compiled_class(module);
  py::class_<SuspendTrace>(module, "SuspendTrace",
                           "Within it ops compute at once although a trace is under way.")
      .def(py::init<>())
      .def("__enter__", [](SuspendTrace& self) { self.enter(); })
      .def("__exit__", [](SuspendTrace& self, const py::args&) { self.exit(); });
  module.def("trace", &trace, py::arg("function"), py::arg("arguments"), py::arg("training") = false);
  module.def("is_tracing", [] { return Trace::current() != nullptr; });
  module.def("op_schemas", [] {
    py::list result;
    for (const OpSchema* op : all_ops()) result.append(describe_op(*op));
    return result;
  });
  module.def("ops_with_kernels", &ops_with_kernels);
  module.def(
      "promote_types",
      [](py::handle a, py::handle b) {
        return bind::to_python(promote(to_dtype(a, "promote_types"), to_dtype(b, "promote_types")));
      },
      py::arg("a"), py::arg("b"), "The dtype in which two dtypes meet.");
}

}  // namespace mxpipe::bind
