"""Forms of the pages: fields, labels and help. The services check the values; their errors are shown at these fields."""

from flask_wtf import FlaskForm
from wtforms import BooleanField, EmailField, HiddenField, PasswordField, StringField, TextAreaField
from wtforms.validators import InputRequired

from app.errors import DomainError, InvalidInput
from app.http.errors import status_of

TYPED_BY_HAND = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class ActionForm(FlaskForm):
    """A button: a form with only the CSRF token."""


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
    """The password again, for actions that a session alone does not allow."""

    password = PasswordField("Your password, again", render_kw={"autocomplete": "current-password"})


class RestoreForm(FlaskForm):
    safety_backup = BooleanField("Make a safety backup of the current state first", default=True)
    without_safety = BooleanField(
        "Restore without a safety backup. I understand that the current state may then be lost permanently."
    )
    confirm = StringField("Name of the database", render_kw=TYPED_BY_HAND)
    password = PasswordField("Your password, again", render_kw={"autocomplete": "current-password"})


class TrustForm(PasswordAgainForm):
    words = StringField("Type the sentence", render_kw=TYPED_BY_HAND)


def show_errors(form: FlaskForm, error: InvalidInput) -> None:
    """Attach each message of a service to the field it names; others go above the form."""
    for name, message in error.fields.items():
        if name in form:
            form[name].errors = [*form[name].errors, message]
        else:
            form.form_errors.append(message)


def refuse(form: FlaskForm, error: DomainError) -> int:
    """Show the error of a service at the form's fields, or above them. Return the HTTP status of the answer."""
    if isinstance(error, InvalidInput):
        show_errors(form, error)
    else:
        form.form_errors.append(error.detail)
    return status_of(error)
