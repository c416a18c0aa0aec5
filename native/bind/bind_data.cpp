// The data path in Python: Arrow objects and NumPy arrays in, filled NumPy arrays out. Gathers run without
// the interpreter's lock.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>

#include "data/gather.hpp"
#include "data/row_order.hpp"
#include "exec/array.hpp"
#include "exec/engine/engine.hpp"

namespace py = pybind11;

namespace mxpipe {
namespace {

using data::Column;
using data::OwnedArray;
using data::OwnedSchema;
using data::OwnedStream;
using data::RowGather;
using data::RowOrder;
using data::RowSource;
using data::SchemaError;
using data::ValueKind;
using data::Vocabulary;

using Float32 = py::array_t<float, py::array::c_style>;
using Int32 = py::array_t<std::int32_t, py::array::c_style>;
using Int64 = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

// --- Arrow
// -----------------------------------------------------------------------------------------------------

template <typename T>
T* unwrap(const py::handle& object, const char* name) {
  if (!PyCapsule_IsValid(object.ptr(), name)) {
    fail(ErrorKind::data, "arrow", "an exporter must give a capsule named ", name, "; it does not.");
  }
  return static_cast<T*>(PyCapsule_GetPointer(object.ptr(), name));
}

// Calls part(schema, array) for every array of an object that exports one or a stream of them.
template <typename Part>
void for_arrays(const py::handle& object, const Part& part) {
  if (py::hasattr(object, "__arrow_c_array__")) {
    const py::tuple pair = object.attr("__arrow_c_array__")();
    OwnedSchema schema(unwrap<ArrowSchema>(pair[0], "arrow_schema"));
    part(*schema, std::make_shared<OwnedArray>(unwrap<ArrowArray>(pair[1], "arrow_array")));
    return;
  }
  OwnedStream stream(unwrap<ArrowArrayStream>(object.attr("__arrow_c_stream__")(), "arrow_array_stream"));
  const auto check = [&](int status) {
    if (status == 0) return;
    const char* reason = stream->get_last_error(stream.get());
    fail(ErrorKind::data, "arrow", "a stream must give its arrays; got ", reason ? reason : "an error", ".");
  };
  OwnedSchema schema;
  check(stream->get_schema(stream.get(), schema.get()));
  while (true) {
    const auto array = std::make_shared<OwnedArray>();
    check(stream->get_next(stream.get(), array->get()));
    if ((*array)->release == nullptr) return;
    part(*schema, array);
  }
}

void append(RowSource& source, const py::object& rows) {
  for_arrays(rows, [&](const ArrowSchema& schema, const std::shared_ptr<OwnedArray>& array) {
    source.append(schema, array);
  });
}

// --- NumPy arrays and lists
// ------------------------------------------------------------------------------------

// Keeps a Python object until no column views its memory; the last owner may be any thread.
std::shared_ptr<const void> keep(py::object object) {
  return std::shared_ptr<const py::object>(new py::object(std::move(object)), [](const py::object* held) {
    py::gil_scoped_acquire lock;
    delete held;
  });
}

ValueKind kind_of(const py::dtype& dtype, const std::string& name) {
  const char code = dtype.kind();
  const auto width = dtype.itemsize();
  const auto wide = [&](ValueKind one, ValueKind two, ValueKind four, ValueKind eight) {
    return width == 1 ? one : width == 2 ? two : width == 4 ? four : eight;
  };
  if (code == 'b') return ValueKind::uint8;
  if (code == 'i') return wide(ValueKind::int8, ValueKind::int16, ValueKind::int32, ValueKind::int64);
  if (code == 'u') return wide(ValueKind::uint8, ValueKind::uint16, ValueKind::uint32, ValueKind::uint64);
  if (code == 'f' && width <= 8) {
    return wide(ValueKind::float16, ValueKind::float16, ValueKind::float32, ValueKind::float64);
  }
  throw SchemaError(text("[rows] column '", name, "' must hold numbers, bools or strings; got dtype ",
                         py::str(dtype).cast<std::string>(), "."));
}

Column from_array(const py::array& array, const std::string& name) {
  if (array.ndim() != 1 || !(array.flags() & py::array::c_style)) {
    throw SchemaError(
        text("[rows] column '", name, "' must be one-dimensional; got ", array.ndim(), " dimensions."));
  }
  Column column;
  column.kind = kind_of(array.dtype(), name);
  column.length = array.size();
  column.values = array.data();
  column.owner = keep(array);
  return column;
}

// Memory of a column that was built from a list.
struct ListColumn {
  std::vector<std::int64_t> integers;  // values, or offsets of strings
  std::vector<double> floats;
  std::string characters;
  std::vector<std::uint8_t> validity;

  void set_null(std::size_t row, std::size_t rows) {
    if (validity.empty()) validity.assign((rows + 7) / 8, 0xff);
    validity[row / 8] &= static_cast<std::uint8_t>(~(1U << (row % 8)));
  }
};

[[noreturn]] void reject(const py::handle& item, const std::string& name, const char* wanted) {
  throw SchemaError(text("[rows] column '", name, "' must hold ", wanted, "; got ",
                         py::repr(item).cast<std::string>().substr(0, 80), "."));
}

bool is_null(const py::handle& item) {
  return item.is_none() || (PyFloat_Check(item.ptr()) && std::isnan(PyFloat_AS_DOUBLE(item.ptr())));
}

Column from_strings(const py::list& items, const std::string& name) {
  const auto memory = std::make_shared<ListColumn>();
  memory->integers.push_back(0);
  for (std::size_t row = 0; row < items.size(); ++row) {
    const py::handle item = items[row];
    if (PyUnicode_Check(item.ptr())) {
      Py_ssize_t size = 0;
      const char* characters = PyUnicode_AsUTF8AndSize(item.ptr(), &size);
      if (characters == nullptr) throw py::error_already_set();
      memory->characters.append(characters, static_cast<std::size_t>(size));
    } else if (is_null(item)) {
      memory->set_null(row, items.size());
    } else {
      reject(item, name, "strings");
    }
    memory->integers.push_back(static_cast<std::int64_t>(memory->characters.size()));
  }
  Column column;
  column.kind = ValueKind::utf8_64;
  column.length = static_cast<std::int64_t>(items.size());
  column.values = memory->integers.data();
  column.text = memory->characters.data();
  column.validity = memory->validity.empty() ? nullptr : memory->validity.data();
  column.owner = memory;
  return column;
}

// Integers stay integers unless a number with a fraction is among them.
Column from_numbers(const py::list& items, const std::string& name) {
  const auto memory = std::make_shared<ListColumn>();
  bool whole = true;
  for (std::size_t row = 0; row < items.size(); ++row) {
    const py::handle item = items[row];
    double value = 0;
    long long integer = 0;
    if (is_null(item)) {
      memory->set_null(row, items.size());
    } else if (PyLong_Check(item.ptr())) {
      int overflow = 0;
      integer = PyLong_AsLongLongAndOverflow(item.ptr(), &overflow);
      if (overflow != 0) reject(item, name, "numbers of at most 64 bits");
      value = static_cast<double>(integer);
    } else if (PyNumber_Check(item.ptr())) {
      value = PyFloat_AsDouble(item.ptr());
      if (PyErr_Occurred()) {
        PyErr_Clear();
        reject(item, name, "numbers");
      }
      whole = false;
    } else {
      reject(item, name, "numbers");
    }
    memory->floats.push_back(value);
    memory->integers.push_back(integer);
  }
  Column column;
  column.kind = whole ? ValueKind::int64 : ValueKind::float64;
  column.length = static_cast<std::int64_t>(items.size());
  column.values = whole ? static_cast<const void*>(memory->integers.data()) : memory->floats.data();
  column.validity = memory->validity.empty() ? nullptr : memory->validity.data();
  column.owner = memory;
  return column;
}

std::vector<Column> column_parts(const py::object& values, bool strings, const std::string& name) {
  if (py::isinstance<py::list>(values)) {
    return {strings ? from_strings(values, name) : from_numbers(values, name)};
  }
  if (py::isinstance<py::array>(values)) return {from_array(values, name)};
  if (!py::hasattr(values, "__arrow_c_array__") && !py::hasattr(values, "__arrow_c_stream__")) {
    reject(values, name, "a value per row");
  }
  std::vector<Column> parts;
  for_arrays(values, [&](const ArrowSchema& schema, const std::shared_ptr<OwnedArray>& array) {
    parts.push_back(data::import_column(schema, **array, array, name));
  });
  return parts;
}

void append_columns(RowSource& source, const std::vector<std::pair<py::object, bool>>& columns) {
  std::vector<std::vector<Column>> parts;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const std::string& name = i < source.names().size() ? source.names()[i] : "?";
    parts.push_back(column_parts(columns[i].first, columns[i].second, name));
  }
  source.append_columns(parts);
}

// --- gathering
// -------------------------------------------------------------------------------------------------

using NumericArgument = std::tuple<std::string, double, double, double, bool>;
using CategoricalArgument = std::pair<std::string, std::shared_ptr<Vocabulary>>;

std::shared_ptr<RowGather> make_gather(const RowSource& source, const std::vector<NumericArgument>& numeric,
                                       const std::vector<CategoricalArgument>& categorical,
                                       std::optional<std::string> label) {
  std::vector<data::NumericFeature> numbers;
  for (const auto& [name, mean, inverse_std, fill, indicator] : numeric) {
    numbers.push_back({name, mean, inverse_std, fill, indicator});
  }
  std::vector<data::CategoricalFeature> categories;
  for (const auto& [name, vocabulary] : categorical) categories.push_back({name, vocabulary});
  py::gil_scoped_release unlocked;
  return std::make_shared<RowGather>(source, std::move(numbers), std::move(categories), std::move(label));
}

void check_output(const py::array& array, std::int64_t rows, std::int64_t width, const char* name) {
  const bool fits =
      array.writeable() && array.ndim() >= 1 && array.shape(0) == rows && array.size() == rows * width;
  if (!fits) {
    fail(ErrorKind::data, "gather", name, " must be writable and of shape (", rows, ", ", width, "); got ",
         array.size(), " values.");
  }
}

data::BatchView batch_view(const RowGather& gather, std::int64_t rows, Float32& numeric, Int32& categorical,
                           std::optional<Float32>& label) {
  check_output(numeric, rows, gather.numeric_width(), "numeric");
  check_output(categorical, rows, gather.categorical_width(), "categorical");
  if (label.has_value() != gather.has_label()) {
    fail(ErrorKind::data, "gather",
         "label must be given when, and only when, the gather has a label column.");
  }
  if (label) check_output(*label, rows, 1, "label");
  return {numeric.mutable_data(), categorical.mutable_data(), label ? label->mutable_data() : nullptr};
}

void gather_rows(const RowGather& gather, const std::optional<Int64>& rows, Float32 numeric,
                 Int32 categorical, std::optional<Float32> label) {
  const std::int64_t count = rows ? rows->size() : gather.rows();
  const data::BatchView out = batch_view(gather, count, numeric, categorical, label);
  const std::int64_t* given = rows ? rows->data() : nullptr;
  py::gil_scoped_release unlocked;
  if (given != nullptr) {
    gather.gather(given, count, out);
  } else if (count > 0) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(count));
    RowOrder(count, std::nullopt, 0).fill(0, count, all.data());
    gather.gather(all.data(), count, out);
  }
}

// A batch in the engine's own memory, filled by a native task: the worker never takes the interpreter's lock.
py::tuple push_batch(const std::shared_ptr<RowGather>& gather, engine::DependencyEngine& engine,
                     const std::shared_ptr<RowOrder>& order, std::int64_t start, std::int64_t count,
                     std::string where) {
  if (!gather->has_label() || count < 0) {
    fail(ErrorKind::data, "gather", "a batch must have a label and a size; got ", count, " rows.");
  }
  const ArrayPtr numeric = Array::empty({DType::float32, {count, gather->numeric_width()}});
  const ArrayPtr categorical = Array::empty({DType::int32, {count, gather->categorical_width()}});
  const ArrayPtr label = Array::empty({DType::float32, {count}});
  const data::BatchView out{reinterpret_cast<float*>(numeric->data()),
                            reinterpret_cast<std::int32_t*>(categorical->data()),
                            reinterpret_cast<float*>(label->data())};
  const std::array memory{numeric->storage(), categorical->storage(), label->storage()};
  const engine::VariablePtr variable = engine.variable();
  const auto work = [gather, order, start, count, out, memory] {
    std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
    order->fill(start, count, rows.data());
    gather->gather(rows.data(), count, out);
  };
  engine.push(work, {}, {variable}, std::move(where));
  return py::make_tuple(variable, numeric, categorical, label);
}

py::array_t<std::int64_t> order_rows(const RowOrder& order, std::int64_t start, std::int64_t count) {
  py::array_t<std::int64_t> rows(std::max<std::int64_t>(count, 0));
  order.fill(start, count, rows.mutable_data());
  return rows;
}

std::shared_ptr<Vocabulary> make_vocabulary(const py::list& values, bool strings) {
  if (strings) return std::make_shared<Vocabulary>(values.cast<std::vector<std::string>>());
  return std::make_shared<Vocabulary>(values.cast<std::vector<std::int64_t>>());
}

}  // namespace

void bind_data(py::module_& module) {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const SchemaError& error) {
      const py::object type = py::module_::import("mxpipe.errors").attr("SchemaError");
      PyErr_SetString(type.ptr(), error.what());
    }
  });

  py::class_<Vocabulary, std::shared_ptr<Vocabulary>>(
      module, "Vocabulary", "Ids of categories: 1 + position in the list, 0 for anything else.")
      .def(py::init(&make_vocabulary), py::arg("values"), py::arg("strings"))
      .def("__len__", &Vocabulary::size, "Number of ids, the 0 of unknown values included.");

  py::class_<RowOrder, std::shared_ptr<RowOrder>>(
      module, "RowOrder",
      "The order of an epoch: a permutation of 0..rows by (seed, epoch), any position at once.")
      .def(py::init<std::int64_t, std::optional<std::uint64_t>, std::int64_t>(), py::arg("rows"),
           py::arg("seed"), py::arg("epoch"))
      .def("rows", &order_rows, py::arg("start"), py::arg("count"),
           "Rows at these positions, int64 (count,).");

  py::class_<RowSource>(module, "RowSource", "Columns by name, in chunks; Arrow memory is not copied.")
      .def(py::init<std::vector<std::string>>(), py::arg("names"))
      .def_property_readonly("num_rows", &RowSource::rows)
      .def_property_readonly("num_chunks", [](const RowSource& source) { return source.chunks().size(); })
      .def("append", &append, py::arg("rows"), "Append a record batch, or a stream of them.")
      .def("append_columns", &append_columns, py::arg("columns"),
           "Append (values, are strings) for each column: an Arrow column, a NumPy array or a list.");

  py::class_<RowGather, std::shared_ptr<RowGather>>(
      module, "RowGather", "Features of a source, ready to be written into batches by any thread.")
      .def(py::init(&make_gather), py::arg("source"), py::arg("numeric"), py::arg("categorical"),
           py::arg("label"))
      .def("gather", &gather_rows, py::arg("rows"), py::arg("numeric").noconvert(),
           py::arg("categorical").noconvert(), py::arg("label").noconvert(),
           "Write the given rows (None: all) into the arrays of a batch.")
      .def("push_batch", &push_batch, py::arg("engine"), py::arg("order"), py::arg("start"), py::arg("count"),
           py::arg("where"),
           "Have an engine gather the rows at positions start..start+count of an order.\n\n"
           "Returns (variable, numeric, categorical, label): new arrays, filled once the variable is waited "
           "for.");

  module.def(
      "data_copy_count",
      [] {
        const data::CopyCount count = data::copy_count();
        return std::pair(count.gathers, count.bytes);
      },
      "(gathers, bytes) that were written into batches since the process began.");
}

}  // namespace mxpipe
