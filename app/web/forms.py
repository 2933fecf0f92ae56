"""Forms of the pages: fields, labels and help. The rules are the services'; their errors are shown at these fields."""

from flask_wtf import FlaskForm
from wtforms import BooleanField, EmailField, HiddenField, PasswordField, StringField, TextAreaField
from wtforms.validators import InputRequired

from app.errors import DomainError, InvalidInput
from app.http.errors import status_of

TYPED_BY_HAND = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


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


class PasswordAgainForm(FlaskForm):
    """Something that the session alone is not enough for."""

    password = PasswordField("Your password, again", render_kw={"autocomplete": "current-password"})


class RestoreForm(FlaskForm):
    safety_backup = BooleanField("Make a safety backup of the present state first", default=True)
    without_safety = BooleanField(
        "Restore without a safety backup. I know that the present state may then be lost for good."
    )
    confirm = StringField("Name of the database", render_kw=TYPED_BY_HAND)
    password = PasswordField("Your password, again", render_kw={"autocomplete": "current-password"})


class TrustForm(PasswordAgainForm):
    words = StringField("Type the sentence", render_kw=TYPED_BY_HAND)


def show_errors(form: FlaskForm, error: InvalidInput) -> None:
    """Given what a service refused, put each message at the field it names; messages for no field go to the form."""
    for name, message in error.fields.items():
        if name in form:
            form[name].errors = [*form[name].errors, message]
        else:
            form.form_errors.append(message)


def refuse(form: FlaskForm, error: DomainError) -> int:
    """Given why a service refuses a form, show it there: at its fields, else above them. Return the answer's status."""
    if isinstance(error, InvalidInput):
        show_errors(form, error)
    else:
        form.form_errors.append(error.detail)
    return status_of(error)
