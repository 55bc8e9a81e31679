#include "network.h"
#include "arrays.h"
#include "calls.h"
#include "fastconv/network.h"

#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <utility>

namespace fastconv {
namespace {

using network::Json;
using network::Program;
using network::Schedule;

// ---- Values of JSON ----------------------------------------------------------------------------------------------

constexpr int kDeepest = 4; // the most levels of nested lists; no attribute needs more than two levels

Json to_json(const std::string& name, py::handle value, int depth = 0) {
    if (value.is_none()) return {};
    if (is_bool(value)) return {boolean(name.c_str(), value)};
    if (PyUnicode_Check(value.ptr())) return {std::string(text_of(value))};
    if (py::isinstance<py::list>(value) || py::isinstance<py::tuple>(value)) {
        if (depth == kDeepest)
            fail<py::value_error>("attribute '", name, "' must have at most ", kDeepest, " levels of lists");
        Json::List list;
        for (const py::handle item : value) list.push_back(to_json(name, item, depth + 1));
        return {std::move(list)};
    }
    if (py::isinstance<py::array>(value) || PyNumber_Check(value.ptr()) == 0)
        fail<py::type_error>("attribute '", name, "' must be made of None, booleans, numbers, strings and lists, got ",
                             describe(value));
    if (PyIndex_Check(value.ptr()) != 0) return {integer(name.c_str(), value)};
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Float(value.ptr()));
    if (!number) throw py::error_already_set();
    return {number.cast<double>()};
}

py::object from_json(const Json& json) {
    return std::visit(
        [](const auto& held) -> py::object {
            using Held = std::decay_t<decltype(held)>;
            if constexpr (std::is_same_v<Held, std::monostate>) {
                return py::none();
            } else if constexpr (std::is_same_v<Held, Json::List>) {
                py::list list;
                for (const Json& item : held) list.append(from_json(item));
                return list;
            } else {
                return py::cast(held);
            }
        },
        json.held);
}

py::list describe_operations() {
    py::list result;
    for (const network::OperationSpec& operation : network::operation_specs()) {
        py::list inputs, attributes;
        for (const network::InputSpec& input : operation.inputs) {
            py::dict entry;
            entry["name"] = input.name;
            entry["kind"] = network::name_of(input.kind);
            inputs.append(entry);
        }
        for (const network::AttributeSpec& attribute : operation.attributes) {
            py::dict entry;
            entry["name"] = attribute.name;
            entry["kind"] = network::name_of(attribute.kind);
            if (!attribute.required) entry["default"] = from_json(attribute.otherwise);
            if (!attribute.words.empty()) entry["words"] = py::cast(attribute.words);
            attributes.append(entry);
        }
        py::dict entry;
        entry["name"] = operation.name;
        entry["inputs"] = inputs;
        entry["attributes"] = attributes;
        result.append(entry);
    }
    return result;
}

// ---- Programs ----------------------------------------------------------------------------------------------------

using OptionalSizes = std::vector<std::optional<std::int64_t>>;
using Inputs = std::vector<std::pair<std::string, OptionalSizes>>;
using Steps = std::vector<std::tuple<std::string, OptionalSizes, py::dict, std::string>>;
using Outputs = std::vector<std::pair<std::string, std::int64_t>>;

DataType read_dtype(const py::object& dtype) {
    const int number = py::dtype::from_args(dtype).num();
    if (number == py::dtype::num_of<float>()) return DataType::float32;
    if (number == py::dtype::num_of<double>()) return DataType::float64;
    fail<py::type_error>("dtype must be float32 or float64, got ", describe(dtype));
}

/// A program, and the arrays that hold its constants.
class NetworkProgram {
  public:
    NetworkProgram(const py::object& dtype, const Inputs& inputs, const std::vector<py::object>& constants,
                   const Steps& steps, const Outputs& outputs, bool batch_invariant) {
        network::ProgramSource source;
        source.batch_invariant = batch_invariant;
        source.dtype = read_dtype(dtype);
        for (const auto& [name, shape] : inputs) {
            network::NamedShape input{name, {}};
            for (const auto& size : shape) {
                if (size && *size < 0)
                    fail<py::value_error>("input '", name, "' must not have a negative size, got ", *size,
                                          "; use None for a size that is not known");
                input.dims.push_back(size.value_or(unknown_size));
            }
            source.inputs.push_back(std::move(input));
        }
        for (std::size_t i = 0; i < constants.size(); ++i) {
            const std::string name = "constant " + std::to_string(i);
            constants_.push_back(typed_input(name.c_str(), constants[i], source.dtype, "the network"));
            source.constants.push_back({dims_of(constants_.back()), constants_.back().data()});
        }
        for (const auto& [operation, references, attributes, name] : steps) {
            network::StepSource step;
            step.operation = operation;
            step.name = name;
            for (const auto& reference : references) step.inputs.push_back(reference.value_or(network::left_out));
            for (const auto& [key, value] : attributes) {
                const std::string attribute(text_of(key));
                step.attributes.push_back({attribute, to_json(attribute, value)});
            }
            source.steps.push_back(std::move(step));
        }
        for (const auto& [name, value] : outputs) source.outputs.push_back({name, value});
        program_ = std::make_unique<const Program>(std::move(source));
    }

    py::list run(const py::list& inputs) const { return run_timed(inputs, nullptr); }

    /// The outputs, and the seconds that each step took.
    py::tuple profile(const py::list& inputs) const {
        std::vector<double> seconds;
        const py::list outputs = run_timed(inputs, &seconds);
        return py::make_tuple(outputs, seconds);
    }

    py::list describe(const std::vector<Dims>& inputs) const {
        py::list result;
        for (const network::StepReport& step : program_->describe(*program_->schedule(inputs))) {
            py::dict entry;
            entry["algorithm"] = step.algorithm;
            entry["shape"] = py::tuple(py::cast(step.output));
            entry["operations"] = step.operations;
            entry["copies"] = step.copies;
            entry["in_place"] = step.in_place;
            result.append(entry);
        }
        return result;
    }

    std::int64_t arena_bytes(const std::vector<Dims>& inputs) const {
        return program_->arena_bytes(*program_->schedule(inputs));
    }

  private:
    py::list run_timed(const py::list& inputs, std::vector<double>* seconds) const {
        const std::vector<network::NamedShape>& declared = program_->inputs();
        std::vector<py::array> arrays;
        std::vector<Dims> shapes;
        std::vector<const void*> from;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const char* name = i < declared.size() ? declared[i].name.c_str() : "input";
            arrays.push_back(typed_input(name, inputs[i], program_->dtype(), "the network"));
            shapes.push_back(dims_of(arrays.back()));
            from.push_back(arrays.back().data());
        }
        const std::shared_ptr<const Schedule> schedule = program_->schedule(shapes);
        const py::dtype dtype = dtype_of(program_->dtype());
        py::list outputs;
        std::vector<void*> to;
        for (const Dims& dims : program_->output_dims(*schedule)) {
            py::array output = new_array(dtype, dims);
            to.push_back(output.mutable_data());
            outputs.append(std::move(output));
        }
        if (seconds != nullptr) seconds->assign(program_->describe(*schedule).size(), 0.0);
        const ReleasedLock released;
        program_->run(*schedule, from.data(), to.data(), seconds);
        return outputs;
    }

    std::vector<py::array> constants_;
    std::unique_ptr<const Program> program_;
};

} // namespace

void add_network(py::module_& module) {
    module.def("network_operations", describe_operations);
    py::class_<NetworkProgram>(module, "NetworkProgram")
        .def(py::init<const py::object&, const Inputs&, const std::vector<py::object>&, const Steps&, const Outputs&,
                      bool>())
        .def("run", &NetworkProgram::run)
        .def("profile", &NetworkProgram::profile)
        .def("describe", &NetworkProgram::describe)
        .def("arena_bytes", &NetworkProgram::arena_bytes);
}

} // namespace fastconv
