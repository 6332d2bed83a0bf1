//! Evaluates expressions: literals, templates, conditionals, projections, functions, and references to what a
//! configuration declares.

use super::evaluator::{Evaluator, Scope};
use super::functions;
use super::source::Problem;
use hcl_edit::expr::{
    BinaryOp, BinaryOperator, Expression, ForExpr, FuncCall, Object, ObjectKey, Traversal, TraversalOperator, UnaryOp,
    UnaryOperator,
};
use hcl_edit::template::{Element, Template};
use hcl_edit::{Decorated, Number, Span};
use serde_json::{Map, Value};

impl Evaluator<'_> {
    /// The value of an expression.
    pub(super) fn expression(&self, expression: &Expression, scope: &Scope<'_>) -> Result<Value, Problem> {
        match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value.value())),
            Expression::Number(value) => Ok(number(value.value())),
            Expression::String(value) => Ok(Value::String(value.value().clone())),
            Expression::Array(array) => {
                let elements = array.iter().map(|element| self.expression(element, scope));
                Ok(Value::Array(elements.collect::<Result<_, _>>()?))
            }
            Expression::Object(object) => self.object(object, scope),
            Expression::StringTemplate(template) => self.template(template, scope),
            Expression::HeredocTemplate(heredoc) => self.template(&heredoc.template, scope),
            Expression::Parenthesis(parenthesis) => self.expression(parenthesis.inner(), scope),
            Expression::Variable(name) => {
                scope.names.get(name.as_str()).cloned().ok_or_else(|| {
                    scope.file.problem(expression, format!("nothing is called `{}` here", name.as_str()))
                })
            }
            Expression::Conditional(conditional) => {
                let chosen = match self.truth(&conditional.cond_expr, scope)? {
                    true => &conditional.true_expr,
                    false => &conditional.false_expr,
                };
                self.expression(chosen, scope)
            }
            Expression::FuncCall(call) => self.call(call, scope),
            Expression::Traversal(traversal) => self.traversal(traversal, scope),
            Expression::UnaryOp(operation) => self.unary(operation, scope),
            Expression::BinaryOp(operation) => self.binary(operation, scope),
            Expression::ForExpr(projection) => self.projection(projection, scope),
        }
    }

    /// The value of an expression that has to be true or false.
    pub(super) fn truth(&self, expression: &Expression, scope: &Scope<'_>) -> Result<bool, Problem> {
        let value = self.expression(expression, scope)?;
        value.as_bool().ok_or_else(|| scope.file.problem(expression, format!("{value} is neither true nor false")))
    }

    /// The value of an expression that becomes a part of a text, or a key.
    fn text(&self, expression: &Expression, scope: &Scope<'_>) -> Result<String, Problem> {
        let value = self.expression(expression, scope)?;
        functions::text(&value).ok_or_else(|| scope.file.problem(expression, format!("{value} is no text")))
    }

    fn object(&self, object: &Object, scope: &Scope<'_>) -> Result<Value, Problem> {
        let mut fields = Map::new();
        for (key, value) in object.iter() {
            let key = match key {
                ObjectKey::Ident(name) => name.as_str().to_owned(),
                ObjectKey::Expression(expression) => self.text(expression, scope)?,
            };
            fields.insert(key, self.expression(value.expr(), scope)?);
        }
        Ok(Value::Object(fields))
    }

    fn template(&self, template: &Template, scope: &Scope<'_>) -> Result<Value, Problem> {
        let mut text = String::new();
        for element in template.iter() {
            match element {
                Element::Literal(literal) => text.push_str(literal.value()),
                Element::Interpolation(interpolation) => text.push_str(&self.text(&interpolation.expr, scope)?),
                Element::Directive(directive) => {
                    return Err(scope.file.problem(directive, "template directives are not evaluated here"));
                }
            }
        }
        Ok(Value::String(text))
    }

    fn call(&self, call: &FuncCall, scope: &Scope<'_>) -> Result<Value, Problem> {
        let name = call.name.name.as_str();
        if call.name.is_namespaced() || call.args.expand_final() {
            return Err(scope.file.problem(call, format!("this form of a call of `{name}` is not evaluated here")));
        }
        let arguments = call.args.iter().map(|argument| self.expression(argument, scope));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        functions::call(name, &arguments).map_err(|reason| scope.file.problem(call, reason))
    }

    fn unary(&self, operation: &UnaryOp, scope: &Scope<'_>) -> Result<Value, Problem> {
        match *operation.operator.value() {
            UnaryOperator::Not => Ok(Value::Bool(!self.truth(&operation.expr, scope)?)),
            UnaryOperator::Neg => Err(scope.file.problem(operation, "`-` before an expression is not evaluated here")),
        }
    }

    fn binary(&self, operation: &BinaryOp, scope: &Scope<'_>) -> Result<Value, Problem> {
        let (left, right) = (&operation.lhs_expr, &operation.rhs_expr);
        let holds = match *operation.operator.value() {
            BinaryOperator::Eq => self.expression(left, scope)? == self.expression(right, scope)?,
            BinaryOperator::NotEq => self.expression(left, scope)? != self.expression(right, scope)?,
            BinaryOperator::And => self.truth(left, scope)? && self.truth(right, scope)?,
            BinaryOperator::Or => self.truth(left, scope)? || self.truth(right, scope)?,
            other => return Err(scope.file.problem(operation, format!("`{other}` is not evaluated here"))),
        };
        Ok(Value::Bool(holds))
    }

    /// `[for …]` and `{for …}`.
    fn projection(&self, projection: &ForExpr, scope: &Scope<'_>) -> Result<Value, Problem> {
        if projection.grouping {
            return Err(scope.file.problem(projection, "grouping is not evaluated here"));
        }
        let (mut listed, mut keyed) = (Vec::new(), Map::new());
        for (key, value) in self.elements(&projection.intro.collection_expr, scope)? {
            let mut inner = scope.clone();
            if let Some(name) = &projection.intro.key_var {
                inner.names.insert(name.as_str().to_owned(), key);
            }
            inner.names.insert(projection.intro.value_var.as_str().to_owned(), value);
            if let Some(condition) = &projection.cond
                && !self.truth(&condition.expr, &inner)?
            {
                continue;
            }
            let value = self.expression(&projection.value_expr, &inner)?;
            match &projection.key_expr {
                Some(key) => _ = keyed.insert(self.text(key, &inner)?, value),
                None => listed.push(value),
            }
        }
        Ok(if projection.key_expr.is_some() { Value::Object(keyed) } else { Value::Array(listed) })
    }

    /// The elements of a list, with their indices, or of a map, with their keys.
    fn elements(&self, collection: &Expression, scope: &Scope<'_>) -> Result<Vec<(Value, Value)>, Problem> {
        match self.expression(collection, scope)? {
            Value::Array(values) => {
                Ok(values.into_iter().enumerate().map(|(index, value)| (Value::from(index), value)).collect())
            }
            Value::Object(values) => Ok(values.into_iter().map(|(key, value)| (Value::String(key), value)).collect()),
            other => Err(scope.file.problem(collection, format!("{other} has no elements"))),
        }
    }

    fn traversal(&self, traversal: &Traversal, scope: &Scope<'_>) -> Result<Value, Problem> {
        let (mut value, operators) = self.root(traversal, scope)?;
        for operator in operators {
            let key = match operator.value() {
                TraversalOperator::GetAttr(name) => Value::String(name.as_str().to_owned()),
                TraversalOperator::Index(index) => self.expression(index, scope)?,
                TraversalOperator::AttrSplat(_)
                | TraversalOperator::FullSplat(_)
                | TraversalOperator::LegacyIndex(_) => {
                    return Err(scope.file.problem(traversal, "`.*`, `[*]` and `.0` are not evaluated here"));
                }
            };
            let found = match (&value, &key) {
                (Value::Object(fields), Value::String(name)) => fields.get(name).cloned(),
                (Value::Array(values), Value::Number(_)) => {
                    let index = key.as_u64().and_then(|index| usize::try_from(index).ok());
                    index.and_then(|index| values.get(index)).cloned()
                }
                _ => None,
            };
            let missing = || format!("there is no {key} in `{}`", traversal_text(traversal));
            value = found.ok_or_else(|| scope.file.problem(traversal, missing()))?;
        }
        Ok(value)
    }

    /// The value that the first names of a traversal stand for, and the operators that follow them.
    fn root<'t>(
        &self,
        traversal: &'t Traversal,
        scope: &Scope<'_>,
    ) -> Result<(Value, &'t [Decorated<TraversalOperator>]), Problem> {
        let operators = traversal.operators.as_slice();
        let Some(root) = traversal.expr.as_variable() else {
            return Ok((self.expression(&traversal.expr, scope)?, operators));
        };
        let names: Vec<&str> = operators
            .iter()
            .map_while(|operator| match operator.value() {
                TraversalOperator::GetAttr(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let place = scope.file.place(traversal.span());
        if let Some(value) = scope.names.get(root.as_str()) {
            return Ok((value.clone(), operators));
        }
        let (value, used) = match (root.as_str(), names.as_slice()) {
            ("var", [name, ..]) => (self.variable(name, &place)?, 1),
            ("local", [name, ..]) => (self.local(name, &place)?, 1),
            ("path", ["module", ..]) => (Value::from("."), 1),
            ("data", [kind, name, ..]) => (self.declared(&format!("data.{kind}.{name}"), &place)?, 2),
            (kind, [name, ..]) => (self.declared(&format!("{kind}.{name}"), &place)?, 1),
            (name, []) => return Err(Problem::new(&place, format!("nothing is called `{name}` here"))),
        };
        Ok((value, &operators[used..]))
    }
}

/// The source of a traversal, for people.
fn traversal_text(traversal: &Traversal) -> String {
    Expression::from(traversal.clone()).to_string().trim().to_owned()
}

fn number(number: &Number) -> Value {
    let whole = number.as_i64().map(Value::from).or_else(|| number.as_u64().map(Value::from));
    whole.or_else(|| number.as_f64().map(Value::from)).unwrap_or(Value::Null)
}
