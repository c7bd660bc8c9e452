"""Copies of fitted estimators in MLflow: logged with a manifest of their files, registered once, loaded as untrusted.

The manifest of a copy is the digest of its files' names and SHA-256. It is a tag of the logged model, with the list of
files, and of the registered version; a caller that keeps it elsewhere can pass it in. A copy's MLmodel is for MLflow's
own loaders: nothing here depends on it.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from bikes_assets.core import model_file
from bikes_assets.core.digest import combined_digest, file_digest
from bikes_assets.core.errors import DigestError, ModelError
from bikes_assets.storage import disk
from bikes_assets.storage.scratch import scratch_folder
from bikes_assets.tracking.names import or_none
from bikes_assets.tracking.version_source import is_as_tagged, is_gone, model_id_in, model_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

MODEL_FILE = "model.skops"
MAX_BYTES = model_file.MAX_BYTES
_OF_MLFLOW = "registered_model_meta"
"""File that MLflow writes beside a copy when somebody loads it by its registered version; nothing here reads it."""
MAX_TAG_LENGTH = 8_000
"""Longest tag, the shortest limit of MLflow's entities: 8,000 on runs, 100,000 in the registry."""


def log_copy(
    client: MlflowClient,
    run_id: str,
    estimator: Any,
    *,
    name: str,
    example: Any,
    trusted: Sequence[str],
    tags: Mapping[str, str | Sequence[str]],
    content: bytes = b"",
    params: Mapping[str, str] | None = None,
) -> str:
    """Log a copy of a fitted estimator as an MLflow model of a run, and return its id.

    It has skops format, pinned requirements, a signature and an example, so that MLflow's own tools can serve it. It is
    READY once all files are uploaded, PENDING when this process was killed before, FAILED when MLflow refused.

    Args:
        client: client of the tracking store.
        run_id: run that it is an output of.
        estimator: fitted scikit-learn estimator.
        name: name of the logged model.
        example: a handful of input rows, a pandas frame; None for a copy without signature and example.
        trusted: the types that its file may hold.
        tags: what it was materialized from; see `fitting`.
        content: its file as `model_file.dumps` wrote it, where available: writing it takes a while.
        params: its hyperparameters.

    Raises:
        ModelError: the estimator holds a type that is not trusted.
    """
    from mlflow.entities import LoggedModelOutput

    content = content or model_file.dumps(estimator, trusted)
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment_id, name, run_id, tags=fitting(tags), params=dict(params or {}))
    try:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        with scratch_folder() as folder:
            _write_copy(folder, model, content, estimator, example, trusted)
            files = {path.name: file_digest(path.read_bytes()) for path in folder.iterdir()}
            known = {"manifest": _manifest(files), "files": json.dumps(files, sort_keys=True)}
            client.set_logged_model_tags(model.model_id, known | {"copy_sha256": files[MODEL_FILE]})
            client.log_model_artifacts(model.model_id, str(folder))
        if place := _folder(model):
            disk.flush_all(place)  # MLflow does not
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    return model.model_id


def checked(client: MlflowClient, model_id: str, *, manifest: str | None = None) -> dict[str, bytes]:
    """Return the files of a logged model by name, after checking that they are the files that were uploaded.

    Args:
        client: client of the tracking store.
        model_id: the logged model.
        manifest: the expected manifest, from a registered version or a record; by default that of the logged model
            itself.

    Raises:
        ModelError: its upload never ended, it has no manifest, or a path that does not stay in its folder.
        DigestError: a file is missing, more or changed.
    """
    return _checked(client, client.get_logged_model(model_id), manifest)


def register(
    client: MlflowClient,
    model_id: str,
    run_id: str,
    *,
    name: str,
    tags: Mapping[str, str | Sequence[str]],
    description: str = "",
    beyond: int = 0,
    is_restored: bool = False,
    of: Mapping[str, str] | None = None,
    about: str = "",
) -> int:
    """Return the version of a registered model that represents a logged model; it is created when there is none.

    A version represents it when it was created from it, or has the same tags `digest` and `address` and is of what its
    tags name. The registered model is created with its first version. Of two processes that do this at once, the later
    one uses the version of the earlier one.

    Args:
        client: client of the registry.
        model_id: the logged model; checked first.
        run_id: run that it is an output of.
        name: registered model.
        tags: what it is found by; see `fitting`.
        description: what MLflow shows of the version, in Markdown.
        beyond: highest number that a version of this registered model has had: a new one must have a higher one, as a
            number is never given to another version. MLflow counts from 1 again where the registered model was deleted
            or renamed.
        is_restored: whether the versions that the event log knows are all there. A number up to `beyond` that MLflow
            assigns was then given to a version that nobody knows any more, and is passed over.
        of: tags of the registered model itself, where it is created.
        about: description of the registered model itself, where it is created.

    Raises:
        ModelError, DigestError: the logged model is not what was uploaded (see `checked`), or the registered model is
            gone.
    """
    model = client.get_logged_model(model_id)
    _checked(client, model)
    standing = _first_of(client, name, model_id, fitting(tags))
    if standing is None:
        if create_registered_model(client, name, of or {}, about) and beyond and not is_restored:
            client.delete_registered_model(name)
            raise _gone(name, beyond)
        while (made := _created(client, name, model, run_id, tags, description)) <= beyond:
            client.delete_model_version(name, str(made))  # its number is used up, and is never given to another version
            if not is_restored:
                raise _gone(name, beyond)
        standing = _first_of(client, name, model_id, fitting(tags))
        if standing is None or int(standing.version) == made:
            _link(client, name, model, made)
            return made
        client.delete_model_version(name, str(made))
    if (other := model_id_in(standing)) != model_id:
        checked(client, other, manifest=standing.tags["manifest"])
    return int(standing.version)


def _first_of(client: MlflowClient, name: str, model_id: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """Return the first version of a registered model that represents a logged model with these tags; see `register`."""
    # versions of one logged model or address have one digest, which few others share: one search finds either
    for version in versions(client, name, {"digest": tags["digest"]} if "digest" in tags else {}):
        same = model_id_in(version) == model_id or version.tags.get("address", "") == tags.get("address")
        if same and "manifest" in version.tags and is_as_tagged(client, version) and not is_gone(client, version):
            return version
    return None


def register_again(
    client: MlflowClient,
    model_id: str,
    run_id: str,
    *,
    name: str,
    tags: Mapping[str, str | Sequence[str]],
    description: str = "",
    number: int,
    beyond: int,
) -> int:
    """Register a deleted version again, under its own number where MLflow still assigns that, else under a new one.

    Args:
        client: client of the registry.
        model_id: the logged model; checked first.
        run_id: run that it is an output of.
        name: registered model, which exists.
        tags: what it is found by; see `fitting`.
        description: what MLflow shows of the version, in Markdown.
        number: the number that it had.
        beyond: highest number that a version has had. Numbers up to there belong to other versions, so none is reused.

    Returns:
        Its number.

    Raises:
        ModelError, DigestError: the logged model is not what was uploaded; see `checked`.
    """
    model = client.get_logged_model(model_id)
    _checked(client, model)
    for _ in range(beyond + 1):
        made = _created(client, name, model, run_id, tags, description)
        if made == number or made > beyond:
            _link(client, name, model, made)
            return made
        client.delete_model_version(name, str(made))  # its number is used up, and is never given to another version
    raise ModelError(f"{name}@{number}: found no number beyond {beyond}, which MLflow counts up to; see its registry")


def version_of(client: MlflowClient, name: str, **tags: str) -> int | None:
    """Return the first version of a registered model that has all these tags and is of what they name, else None."""
    return next((int(item.version) for item in versions(client, name, tags) if is_as_tagged(client, item)), None)


def set_aliases(client: MlflowClient, name: str, aliases: Mapping[str, int | None]) -> list[str]:
    """Point aliases of a registered model at versions, and return what changed, such as `champion: 3 -> 4`.

    An alias that is already right costs no call; None removes an alias.

    Raises:
        ModelError: there is no such registered model or version.
    """
    from mlflow.exceptions import MlflowException

    try:
        now = {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}
        changes = {alias: version for alias, version in aliases.items() if now.get(alias) != version}
        for alias, version in changes.items():
            if version is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise ModelError(f"aliases of {name}: {error.message}; register the model first") from error
    return [f"{alias}: {now.get(alias, 'none')} -> {version or 'none'}" for alias, version in changes.items()]


def load_copy(
    client: MlflowClient, name: str, version_or_alias: int | str, *, trusted: Sequence[str], manifest: str | None = None
) -> Any:
    """Return the estimator of a registered version from MLflow's copy, for users who have MLflow but no lake.

    Nothing that the copy says about itself is trusted: its files are compared with the manifest, then one file, whose
    name and format are fixed here, is read with the types that are passed in. To protect against someone who can also
    write to MLflow's database, pass the manifest from a record of your own; without it they can substitute another
    model, but cannot run code.

    Args:
        client: client of the registry.
        name: registered model.
        version_or_alias: a version, or an alias such as `champion`.
        trusted: the types that its file may hold.
        manifest: the expected manifest; by default that of the version.

    Raises:
        ModelError: there is no such version, it was not registered by this project, or its file holds what is not
            trusted.
        DigestError: a file is missing, more or changed.
    """
    version = _version(client, name, version_or_alias)
    expected, model = manifest or version.tags.get("manifest"), model_of(client, version)
    if not expected or not model:
        raise ModelError(
            f"{name}@{version.version}: found no {'logged model' if expected else 'tag manifest'}, expected a version that was "
            "registered here; register it again"
        )
    files = _checked(client, model, expected)
    if MODEL_FILE not in files:
        raise ModelError(f"{name}@{version.version}: found no {MODEL_FILE} among {', '.join(files)}; log it again")
    try:
        return model_file.loads(files[MODEL_FILE], trusted)
    except ModelError as error:
        raise ModelError(f"{name}@{version.version}, {MODEL_FILE}: {error}") from error


def fitting(tags: Mapping[str, str | Sequence[str]]) -> dict[str, str]:
    """Return tags as texts that MLflow accepts: a list is joined, and what does not fit is counted (`and 7 more`)."""
    return {
        key: _cut(value) if isinstance(value, str) else _joined([str(item) for item in value])
        for key, value in tags.items()
    }


def stated(tags: Mapping[str, str | Sequence[str]], model: LoggedModel) -> dict[str, str]:
    """Return all tags of a version that is registered here.

    Args:
        tags: what it is found by; see `fitting`.
        model: the logged model that it is of.
    """
    return fitting(tags) | {key: model.tags[key] for key in ("manifest",) if key in model.tags}


def _cut(text: str) -> str:
    if len(text) <= MAX_TAG_LENGTH:
        return text
    kept = MAX_TAG_LENGTH - 40
    return f"{text[:kept]} and {len(text) - kept} more characters"


def _joined(items: list[str]) -> str:
    whole = ", ".join(items)
    if len(whole) <= MAX_TAG_LENGTH:
        return whole
    ends = accumulate(len(item) + 2 for item in items)
    kept = sum(1 for end in ends if end <= MAX_TAG_LENGTH - 40)
    return ", ".join([*items[:kept], f"and {len(items) - kept} more"])


@cache
def requirements() -> tuple[str, ...]:
    """Return the packages that loading a copy needs, at this environment's versions."""
    from importlib.metadata import version

    return tuple(f"{name}=={version(name)}" for name in ("scikit-learn", "skops", "numpy", "pandas"))


def _write_copy(
    folder: Path, logged: LoggedModel, content: bytes, estimator: Any, example: Any, trusted: Sequence[str]
) -> None:
    """Write what MLflow's scikit-learn flavor would write, which would load the file twice more to inspect it."""
    import platform

    import sklearn
    from mlflow import pyfunc
    from mlflow.models import Model, convert_input_example_to_serving_input, infer_signature
    from threadpoolctl import threadpool_limits

    model = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    if example is not None:
        served = convert_input_example_to_serving_input(example) or ""
        (folder / "serving_input_example.json").write_text(served)
        (folder / "input_example.json").write_text(json.dumps(json.loads(served)["dataframe_split"]))
        with threadpool_limits(1):  # for a handful of rows, threads that wait for each other cost seconds
            model.signature = infer_signature(example, estimator.predict(example))
        model.saved_input_example_info = {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        }
    pyfunc.add_to_model(
        model,
        loader_module="mlflow.sklearn",
        model_path=MODEL_FILE,
        python_env="python_env.yaml",
        predict_fn="predict",
    )
    model.add_flavor(
        "sklearn",
        pickled_model=MODEL_FILE,
        sklearn_version=sklearn.__version__,
        serialization_format="skops",
        code=None,
        skops_trusted_types=model_file.held(content, trusted),
    )
    (folder / MODEL_FILE).write_bytes(content)
    (folder / "requirements.txt").write_text("\n".join(requirements()))
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\ndependencies:\n- -r requirements.txt\n"
    )
    model.save(str(folder / "MLmodel"))


def _manifest(files: Mapping[str, str]) -> str:
    return combined_digest(part for path in sorted(files) for part in (path, files[path]))


def _difference(found: Mapping[str, str], uploaded: str) -> str:
    """Return what differs from the upload; the list of files serves only the message, the manifest has decided."""
    try:
        known: dict[str, str] = dict(json.loads(uploaded))
    except (ValueError, TypeError):
        known = {}
    more, fewer = sorted(found.keys() - known.keys()), sorted(known.keys() - found.keys())
    changed = sorted(path for path in found.keys() & known.keys() if found[path] != known[path])
    parts = [
        f"{what} {', '.join(paths)}"
        for what, paths in (("found more:", more), ("missing:", fewer), ("changed:", changed))
        if paths
    ]
    return "; ".join(parts) or "its manifest is not the one expected, and its own list of files agrees with its files"


def _checked(client: MlflowClient, model: LoggedModel, manifest: str | None = None) -> dict[str, bytes]:
    culprit = f"MLflow model {model.model_id}"
    if model.status != "READY":
        raise ModelError(
            f"{culprit}: found status {model.status}, expected READY: its upload did not end; log it again"
        )
    expected = manifest or model.tags.get("manifest")
    if not expected:
        raise ModelError(f"{culprit}: found no tag 'manifest', so nothing says what was uploaded; log it again")
    try:
        files = _stored(client, model)
    except ModelError as error:
        raise ModelError(f"{culprit}: {error}") from error
    files.pop(_OF_MLFLOW, None)
    found = {path: file_digest(content) for path, content in files.items()}
    if _manifest(found) != expected:
        raise DigestError(f"{culprit}: {_difference(found, model.tags.get('files', ''))}; log it again")
    return files


def _stored(client: MlflowClient, model: LoggedModel) -> dict[str, bytes]:
    """Return the files that the store has of a model, by path; paths and sizes are checked before a file is opened."""
    if place := _folder(model):
        return _files(place)
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        listed = dict(_listed(client, model.model_id))
        outside = [path for path in listed if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts]
        if outside:
            raise ModelError(f"found path {outside[0]!r}, which leaves the model's folder")
        _check_size(sum(listed.values()))
        with scratch_folder() as folder:
            return _files(
                Path(
                    download_artifacts(model.artifact_location, dst_path=str(folder), tracking_uri=client.tracking_uri)
                )
            )
    except MlflowException as error:
        raise ModelError(f"its files cannot be fetched: {error.message}") from error


def _folder(model: LoggedModel) -> Path | None:
    """Return the folder of a model's files on this machine, None where they are elsewhere."""
    place = urlparse(model.artifact_location)
    return Path(unquote(place.path)) if place.scheme in ("", "file") else None


def _files(folder: Path) -> dict[str, bytes]:
    """Return a folder's files by path; links are not followed."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ModelError(f"found {path.relative_to(folder)}, which is a link or no file, expected a file")
    files = [path for path in paths if path.is_file()]
    _check_size(sum(path.stat().st_size for path in files))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ModelError(f"found {size:,} bytes, expected at most {MAX_BYTES:,}")


def _listed(client: MlflowClient, model_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
    for item in client.list_logged_model_artifacts(model_id, folder):
        if item.is_dir:
            yield from _listed(client, model_id, item.path)
        else:
            yield item.path, item.file_size or 0


def _version(client: MlflowClient, name: str, version_or_alias: int | str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        if str(version_or_alias).isdecimal():
            return client.get_model_version(name, str(version_or_alias))
        return client.get_model_version_by_alias(name, str(version_or_alias))
    except MlflowException as error:
        raise ModelError(f"{name}@{version_or_alias}: {error.message}") from error


def _created(
    client: MlflowClient,
    name: str,
    model: LoggedModel,
    run_id: str,
    tags: Mapping[str, str | Sequence[str]],
    description: str,
) -> int:
    """Create a version of a registered model from a logged model, and return its number."""
    # a source of the form models:/ID would be looked up in whatever store MLflow's global state names
    made = client.create_model_version(
        name,
        model.artifact_location,
        run_id,
        tags=stated(tags, model),
        description=description or None,
        await_creation_for=0,
        model_id=model.model_id,
    )
    return int(made.version)


def _link(client: MlflowClient, name: str, model: LoggedModel, number: int) -> None:
    """Make MLflow's page of a logged model link to its version."""
    links = [item for item in json.loads(model.tags.get("mlflow.modelVersions", "[]")) if item["version"] != number]
    links.append({"name": name, "version": number})
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps(links)})


def create_registered_model(client: MlflowClient, name: str, tags: Mapping[str, str], about: str = "") -> bool:
    """Create a registered model where there is none, and return whether it was created."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, dict(tags), about or None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def registered_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return a registered model, None where there is none of that name."""
    return or_none(lambda: client.get_registered_model(name))


def versions(client: MlflowClient, name: str, tags: Mapping[str, str] | None = None) -> list[ModelVersion]:
    """Return the versions of a registered model, those that have some tags, in the order of their numbers."""
    wanted = "".join(f" and tags.`{key}` = '{value}'" for key, value in (tags or {}).items())
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'{wanted}", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def _gone(name: str, beyond: int) -> ModelError:
    return ModelError(
        f"registered model {name}: found fewer versions than the {beyond} that were registered, for it was deleted or renamed in "
        "MLflow; bikes sync restores it"
    )
