"""Forms of the pages: fields, labels and help. The rules are the services'; their errors are shown at these fields."""

from flask_wtf import FlaskForm
from wtforms import EmailField, HiddenField, PasswordField, StringField, TextAreaField
from wtforms.validators import InputRequired

from app.errors import InvalidInput


class ActionForm(FlaskForm):
    """A button: nothing but the CSRF token."""


class LoginForm(FlaskForm):
    email = EmailField("Email", [InputRequired("Enter your email address.")], render_kw={"autocomplete": "username"})
    password = PasswordField(
        "Password", [InputRequired("Enter your password.")], render_kw={"autocomplete": "current-password"}
    )
    next = HiddenField()


class NoteForm(FlaskForm):
    note = TextAreaField("Note", description="For you and your colleagues: why this backup was made.")


class StartForm(FlaskForm):
    note = StringField("Note (optional)", description="For example: before the upgrade to 2.4.")


def show_errors(form: FlaskForm, error: InvalidInput) -> None:
    """Given what a service refused, put each message at the field it names; messages for no field go to the form."""
    for name, message in error.fields.items():
        if name in form:
            form[name].errors = [*form[name].errors, message]
        else:
            form.form_errors.append(message)
