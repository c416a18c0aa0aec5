// Reading and writing by position: rows, picks and one-hot codes.
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// ids.shape + (depth,)
Shape appended(const Shape& ids, std::int64_t dim) { return join({ids.dims(), std::span(&dim, 1)}); }

std::vector<TensorType> infer_take(Types inputs, const Attributes& attributes) {
  const Shape& shape = inputs[0].shape;
  require_index("take", "indices", inputs[1]);
  const auto axis = static_cast<std::size_t>(axis_of("take", attributes, shape.rank()));
  return {{inputs[0].dtype,
           join({shape.dims().first(axis), inputs[1].shape.dims(), shape.dims().subspan(axis + 1)})}};
}

std::vector<TensorType> infer_take_grad(Types inputs, const Attributes& attributes) {
  require_index("take_grad", "indices", inputs[0]);
  const TensorType result{inputs[1].dtype, shape_attribute("take_grad", attributes)};
  const auto axis = static_cast<std::size_t>(axis_of("take_grad", attributes, result.shape.rank()));
  const Shape expected =
      join({result.shape.dims().first(axis), inputs[0].shape.dims(), result.shape.dims().subspan(axis + 1)});
  require(inputs[1].shape == expected, "take_grad", "g must have shape ", expected, "; got ", inputs[1].shape,
          ".");
  return {result};
}

std::vector<TensorType> infer_pick(Types inputs, const Attributes& attributes) {
  const Shape& shape = inputs[0].shape;
  require_index("pick", "index", inputs[1]);
  const int axis = axis_of("pick", attributes, shape.rank());
  const Shape kept = reduced_shape(shape, {axis}, true);
  const Shape& index = inputs[1].shape;
  require(index == kept || index == without_axis(shape, axis), "pick",
          "index must have the shape of x without axis ", axis, "; got shape ", index, " for ", shape, ".");
  return {{inputs[0].dtype, attributes.boolean("keepdims") ? kept : without_axis(shape, axis)}};
}

std::vector<TensorType> infer_pick_grad(Types inputs, const Attributes& attributes) {
  require_index("pick_grad", "index", inputs[0]);
  const TensorType result{inputs[1].dtype, shape_attribute("pick_grad", attributes)};
  const int axis = axis_of("pick_grad", attributes, result.shape.rank());
  const Shape expected = reduced_shape(result.shape, {axis}, attributes.boolean("keepdims"));
  require(inputs[1].shape == expected, "pick_grad", "g must have shape ", expected, "; got ", inputs[1].shape,
          ".");
  require(inputs[0].size() == inputs[1].size(), "pick_grad",
          "index and g must hold as many numbers; got shape ", inputs[0].shape, " and ", inputs[1].shape,
          ".");
  return {result};
}

std::vector<AttributeSchema> pick_attributes() {
  return {axis_attribute(-1, "axis to pick along"), attribute("keepdims", Attribute(false), "keep it, as 1")};
}

}  // namespace

// ----------------------------------------------------------------------------------------------------- take

MXPIPE_OP({
    .name = "take",
    .doc = R"(The entries of `a` at `indices` along an axis. Negative indices count from the end.

An index outside [-n, n) raises OperatorError.

>>> np.take(np.array([1.0, 2.0, 3.0]), np.array([2, 0, -1]))
array([3., 1., 3.])
)",
    .inputs = {{"a", "array of at least one axis"}, {"indices", "int32 or int64 array of any shape"}},
    .attributes = {axis_attribute(0, "axis of a that the indices count along")},
    .infer = infer_take,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const Term a = input(call, 0);
      const Attributes attributes{{"shape", a.type().shape.to_vector()},
                                  {"axis", call.attributes.integer("axis")}};
      return {input(call, 1).call("take_grad", {gradient(call)}, attributes), Gradient()};
    },
    .moves = true,
});

MXPIPE_OP({
    .name = "take_grad",
    .doc = R"(Zeros of `shape`, with `g` added at `indices` along an axis, in order: the gradient of take.

>>> _native.invoke("take_grad", [np.array([1, 1]), np.array([2.0, 3.0])], {"shape": 3, "axis": 0})
array([0., 5., 0.])
)",
    .inputs = {{"indices", "int32 or int64 array of any shape"}, {"g", "array of take's result shape"}},
    .attributes = {attribute("shape", AttributeType::integers, "shape of the result"),
                   axis_attribute(0, "axis of the result that the indices count along")},
    .infer = infer_take_grad,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {Gradient(),
              gradient(call).call("take", {call.inputs[0]}, {{"axis", call.attributes.integer("axis")}})};
    },
});

// ----------------------------------------------------------------------------------------------------- pick

MXPIPE_OP({
    .name = "pick",
    .doc = R"(One entry of each line of `x` along an axis: x[i, index[i]] of a matrix.

Negative indices count from the end; one outside [-n, n) raises OperatorError.

>>> npx.pick(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
array([2., 3.])
)",
    .inputs = {{"x", "array of at least one axis"},
               {"index", "int32 or int64 array of x's shape without the axis"}},
    .attributes = pick_attributes(),
    .infer = infer_pick,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const Attributes attributes{{"shape", input(call, 0).type().shape.to_vector()},
                                  {"axis", call.attributes.integer("axis")},
                                  {"keepdims", call.attributes.boolean("keepdims")}};
      return {input(call, 1).call("pick_grad", {gradient(call)}, attributes), Gradient()};
    },
});

MXPIPE_OP({
    .name = "pick_grad",
    .doc = R"(Zeros of `shape`, with `g` written at `index` along an axis: the gradient of pick.

>>> _native.invoke("pick_grad", [np.array([1, 0]), np.array([5.0, 6.0])], {"shape": (2, 2)})
array([[0., 5.],
       [6., 0.]])
)",
    .inputs = {{"index", "int32 or int64 array"}, {"g", "array of pick's result shape"}},
    .attributes =
        [] {
          std::vector<AttributeSchema> attributes = pick_attributes();
          attributes.insert(attributes.begin(),
                            attribute("shape", AttributeType::integers, "shape of the result"));
          return attributes;
        }(),
    .infer = infer_pick_grad,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const Attributes attributes{{"axis", call.attributes.integer("axis")},
                                  {"keepdims", call.attributes.boolean("keepdims")}};
      return {Gradient(), gradient(call).call("pick", {call.inputs[0]}, attributes)};
    },
});

MXPIPE_OP({
    .name = "one_hot",
    .doc = R"(A line of zeros with a 1 at each id; ids outside [0, depth) give zeros only.

>>> npx.one_hot(np.array([1, 0]), 3)
array([[0., 1., 0.],
       [1., 0., 0.]])
)",
    .inputs = {{"ids", "int32 or int64 array of any shape"}},
    .attributes = {attribute("depth", AttributeType::integer, "length of the new last axis"),
                   attribute("dtype", Attribute(DType::float32), "dtype of the result")},
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      const std::int64_t depth = attributes.integer("depth");
      require_index("one_hot", "ids", inputs[0]);
      require(depth >= 0, "one_hot", "depth must be at least 0; got ", depth, ".");
      return {{attributes.dtype("dtype"), appended(inputs[0].shape, depth)}};
    },
    .zero_gradient = true,
});

// ------------------------------------------------------------------------------------------------ embedding

MXPIPE_OP({
    .name = "embedding",
    .doc = R"(The row of `weight` for each id. An id outside [0, rows) raises OperatorError.

With `sparse_grad` the gradient of the weight is row-sparse: the rows that were read, and nothing else.

>>> npx.embedding(np.array([1, 0]), np.array([[1.0, 2.0], [3.0, 4.0]]))
array([[3., 4.],
       [1., 2.]])
)",
    .inputs = {{"weight", "array (rows, d)"}, {"ids", "int32 or int64 array of any shape"}},
    .attributes = {attribute("sparse_grad", Attribute(false), "make the weight's gradient row-sparse")},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      require_rank("embedding", "weight", inputs[0], 2);
      require_index("embedding", "ids", inputs[1]);
      return {{inputs[0].dtype, appended(inputs[1].shape, inputs[0].shape[1])}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const Term ids = input(call, 1);
      const Shape& weight = input(call, 0).type().shape;
      if (call.attributes.boolean("sparse_grad")) {
        const std::int64_t count = ids.type().size();
        return {Gradient::row_sparse(ids.reshape({count}).cast(DType::int64),
                                     gradient(call).reshape({count, weight[1]})),
                Gradient()};
      }
      return {ids.call("embedding_grad", {gradient(call)}, {{"rows", weight[0]}}), Gradient()};
    },
});

MXPIPE_OP({
    .name = "embedding_grad",
    .doc = R"(For each row the sum of `g` over its ids, in order: the dense gradient of embedding.

>>> _native.invoke("embedding_grad", [np.array([1, 1]), np.array([[2.0], [3.0]])], {"rows": 2})
array([[0.],
       [5.]])
)",
    .inputs = {{"ids", "int32 or int64 array of any shape"}, {"g", "array ids.shape + (d,)"}},
    .attributes = {attribute("rows", AttributeType::integer, "rows of the result")},
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      require_index("embedding_grad", "ids", inputs[0]);
      const Shape& g = inputs[1].shape;
      const std::int64_t rows = attributes.integer("rows");
      require(rows >= 0, "embedding_grad", "rows must be at least 0; got ", rows, ".");
      require(g.rank() > 0 && g == appended(inputs[0].shape, g.back()), "embedding_grad",
              "g must have the shape of ids and one axis more; got shape ", g, " and ", inputs[0].shape, ".");
      return {{inputs[1].dtype, Shape{rows, g.back()}}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {Gradient(), gradient(call).call("embedding", {call.inputs[0]})};
    },
});

}  // namespace mxpipe::ops
