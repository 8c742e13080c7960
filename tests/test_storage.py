"""Remote storage by the commands of docs/storage.md: a folder, OpenSSH and S3, each real and on loopback."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from project import ROOT, Project
from servers import BUCKET, LOOPBACK, SSHServer, needs_sshd, s3_client, s3_server, ssh_server

from semdefect import CLASSES
from semdefect.network import file_sha256

DOC = (ROOT / "docs/storage.md").read_text(encoding="utf-8")
MODEL = "models/edge/student_int8.onnx"
STAGES = ["synthesize", "split", "train_teacher", "distill", "export_onnx", "evaluate"]


@dataclass
class Place:
    """A remote: what people do to use it, and how a test reaches the objects behind DVC's back."""

    base: Path
    #: Arguments of `dvc remote modify storage` that go into the commit.
    switch: list[list[str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    storage: Path = Path()
    server: SSHServer | None = None
    read: Callable[[str], bytes] = lambda key: b""
    write: Callable[[str, bytes | None], None] = lambda key, content: None

    def clone(self, source: str | Path, name: str) -> Project:
        """A git clone without data, with the credentials of this place and without those of the user."""
        home = self.base / "home"
        home.mkdir(exist_ok=True)
        project = Project(self.base / name, {"HOME": str(home), "NO_PROXY": LOOPBACK} | self.environment)
        subprocess.run(["git", "clone", "-q", str(source), str(project.folder)], check=True)
        return project


def in_folder(place: Place, storage: Path) -> Place:
    """Its objects are files under ``storage``."""

    def write(key: str, content: bytes | None) -> None:
        (storage / key).unlink()
        if content is not None:
            (storage / key).write_bytes(content)
            (storage / key).chmod(0o444)  # as DVC leaves them, and what it trusts without `verify`

    place.storage, place.write = storage, write
    place.read = lambda key: (storage / key).read_bytes()
    return place


def documented_url(scheme: str) -> list[str]:
    """The arguments of the documented line that switches to a kind of remote."""
    (line,) = re.findall(rf"`dvc remote modify storage (url {scheme}://\S+)`", DOC)
    return line.split()


def write_ssh_config(home: Path, text: str) -> None:
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    (home / ".ssh/config").write_text(text)


@contextmanager
def folder_place(base: Path) -> Iterator[Place]:
    yield in_folder(Place(base), base / "dvc-storage")


@contextmanager
def ssh_place(base: Path) -> Iterator[Place]:
    storage = base / "storage"
    storage.mkdir()
    with ssh_server(base) as server:
        key, url = documented_url("ssh")
        url = url.replace("user@host/path", f"{server.login}:{server.port}{storage}")
        write_ssh_config(base / "home", f"Host *\n  IdentityFile {server.key}\n")
        yield in_folder(Place(base, [[key, url]], server=server), storage)


@contextmanager
def s3_place(base: Path) -> Iterator[Place]:
    with s3_server() as address:
        key, url = documented_url("s3")
        client = s3_client(address)

        def write(key: str, content: bytes | None) -> None:
            client.delete_object(Bucket=BUCKET, Key=f"path/{key}")
            if content is not None:
                client.put_object(Bucket=BUCKET, Key=f"path/{key}", Body=content)

        yield Place(
            base,
            switch=[[key, url.replace("bucket", BUCKET)], ["endpointurl", address]],
            environment={"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"},
            read=lambda key: client.get_object(Bucket=BUCKET, Key=f"path/{key}")["Body"].read(),
            write=write,
        )


KINDS = {"folder": folder_place, "ssh": ssh_place, "s3": s3_place}
ON_SSH = pytest.mark.parametrize("place", [pytest.param("ssh", marks=needs_sshd)], indirect=True)


@pytest.fixture(scope="module", params=["folder", pytest.param("ssh", marks=needs_sshd), "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with KINDS[request.param](tmp_path_factory.mktemp(request.param)) as made:
        yield made


def copy_cache(source: Project, target: Project) -> None:
    unfinished = shutil.ignore_patterns("*.tmp")  # of an experiment that may run in the source meanwhile
    shutil.copytree(source.folder / ".dvc/cache", target.folder / ".dvc/cache", ignore=unfinished)


@pytest.fixture(scope="module")
def pushed(place: Place, untouched: Project) -> Project:
    """The project on the machine that made data and models, after the switch and the push."""
    project = place.clone(untouched.folder, "project")
    copy_cache(untouched, project)
    for arguments in place.switch:
        project.run("dvc", "remote", "modify", "storage", *arguments)
    if place.switch:
        project.commit("another remote")
    project.run("dvc", "push")
    return project


def outputs(project: Project) -> dict[str, str]:
    """The MD5 that dvc.lock names for every output that DVC keeps (a folder's is that of its list of files)."""
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    kept = [stage["outs"] for stage in yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"].values()]
    names = {out for outs in kept for out in outs if isinstance(out, str)}
    return {out["path"]: out["md5"] for stage in STAGES for out in lock[stage]["outs"] if out["path"] in names}


def contents(project: Project) -> dict[str, str]:
    """The SHA-256 of every file that DVC keeps, found on the disk and not through DVC."""
    files = [file for name in outputs(project) for file in [project.folder / name, *(project.folder / name).rglob("*")]]
    return {str(file.relative_to(project.folder)): file_sha256(file) for file in sorted(files) if file.is_file()}


def remove(project: Project, *names: str) -> None:
    for name in names:
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def object_key(project: Project, name: str) -> str:
    """Where a remote keeps an output."""
    md5 = outputs(project)[name]
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def commands(heading: str, values: dict[str, str] | None = None) -> list[list[str]]:
    """The indented commands of a section of docs/storage.md, with values for what stands in capitals."""
    section = DOC.split(f"# {heading}\n")[1].split("\n## ")[0]
    lines = [shlex.split(line) for line in re.findall(r"^    (\S.*)$", section, re.MULTILINE)]
    return [[(values or {}).get(word, word) for word in line] for line in lines]


def test_clone_pull_and_nothing_runs(untouched: Project, place: Place, pushed: Project) -> None:
    made = contents(untouched)
    assert len(made) > 100 and MODEL in made
    clone = place.clone(pushed.folder, "clone")
    assert not (clone.folder / "models").exists()
    for command in commands("The default remote")[1:]:
        done = clone.run(*command)
    assert clone.stages_run(done.stdout) == []
    assert contents(clone) == made
    remove(clone, *outputs(clone))
    clone.run("dvc", "checkout")
    assert contents(clone) == made
    assert clone.run("git", "status", "--porcelain").stdout == ""


@ON_SSH
def test_one_command_fetches_what_it_lacks(untouched: Project, place: Place, pushed: Project) -> None:
    clone = place.clone(pushed.folder, "bare")
    assert clone.stages_run(clone.run("dvc", "repro", "--pull").stdout) == []
    assert contents(clone) == contents(untouched)
    assert clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_a_damaged_file_is_refused(place: Place, pushed: Project) -> None:
    key = object_key(pushed, MODEL)
    content = place.read(key)
    place.write(key, content[:1000] + b"evil" + content[1004:])
    clone = place.clone(pushed.folder, "wary")
    refused = clone.run("dvc", "pull", MODEL, ok=False)
    assert "Checkout failed for following targets" in refused.stderr and MODEL in refused.stderr
    assert not (clone.folder / MODEL).exists()
    place.write(key, None)
    pushed.run("dvc", "push", MODEL)
    assert place.read(key) == content


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_the_documented_pipe_finds_a_damaged_object(place: Place, pushed: Project) -> None:
    (text,) = re.findall(r"    cd \.dvc/cache/files/md5 &&( find .*?md5sum.*?)\n\n", DOC, re.DOTALL)

    def wrong() -> str:
        check = ["bash", "-c", f"set -o pipefail; {text}"]
        return subprocess.run(check, cwd=place.storage / "files/md5", capture_output=True, text=True).stdout

    assert wrong() == ""
    key = object_key(pushed, "data/synthetic")  # of a list of files
    content = place.read(key)
    place.write(key, content.replace(b"png", b"gnp", 1))
    assert wrong().splitlines() == [f"{key.removeprefix('files/md5/')}: FAILED"]
    place.write(key, content)


@ON_SSH
def test_two_people_push_at_once(place: Place, pushed: Project) -> None:
    before = {path.name for path in place.storage.rglob("*") if path.is_file()}
    shutil.rmtree(place.storage / "files")
    others = [place.clone(pushed.folder, name) for name in ("one", "two")]
    for other in others:
        copy_cache(pushed, other)
    pushes = [
        subprocess.Popen(["dvc", "push"], cwd=other.folder, env=other.environment, stdout=subprocess.PIPE, text=True)
        for other in others
    ]
    assert [(push.wait(timeout=120), push.communicate()[0].count("pushed")) for push in pushes] == [(0, 1), (0, 1)]
    assert {path.name for path in place.storage.rglob("*") if path.is_file()} == before


@ON_SSH
def test_host_keys_are_not_checked_by_dvc_but_through_openssh(place: Place, pushed: Project) -> None:
    """What docs/storage.md warns of; when this fails because DVC checks, change the document."""
    server, clone = place.server, place.clone(pushed.folder, "careful")
    assert server is not None
    home = clone.environment["HOME"] = str(place.base / "careful home")
    clone.run(*commands("Another remote", {"~/.ssh/id_storage": str(server.key)})[0])
    strict = ["-F", "none", "-o", "StrictHostKeyChecking=yes", "-i", str(server.key), "-p", str(server.port)]
    options = {name: [*strict, "-o", f"UserKnownHostsFile={server.known_hosts(name)}"] for name in server.HOST_KEYS}
    write_ssh_config(Path(home), "Host *\n  StrictHostKeyChecking yes\n")
    shutil.copy(server.known_hosts("stranger"), Path(home) / ".ssh/known_hosts")
    refused = clone.run("ssh", *options["stranger"], server.login, "true", ok=False)
    assert "Host key verification failed" in refused.stderr
    clone.run("dvc", "status", "--cloud", MODEL)
    url = f"ssh://{server.login.replace(LOOPBACK, 'storage-checked')}{place.storage}"
    clone.run("dvc", "remote", "modify", "--local", "storage", "url", url)
    for name, ok in (("stranger", False), ("host_key", True)):
        through = shlex.join(["ssh", *options[name], "-W", f"{LOOPBACK}:{server.port}", server.login])
        write_ssh_config(Path(home), f"Host storage-checked\n  ProxyCommand {through}\n")
        clone.run("dvc", "status", "--cloud", MODEL, ok=ok)


@ON_SSH
def test_an_experiment_is_shared_and_an_old_commit_comes_back(
    untouched: Project, place: Place, pushed: Project
) -> None:
    old = pushed.run("git", "rev-parse", "HEAD~").stdout.strip()  # of the remote that was a folder
    origin = place.base / "origin.git"
    pushed.run("git", "clone", "-q", "--bare", ".", str(origin))
    pushed.run("git", "remote", "set-url", "origin", str(origin))
    run, push, pull, apply = commands("Experiments", {"NAME": "smaller"})
    done = pushed.run(*run[: run.index("-S")], "-S", "synthesize.images_per_class=8", "split")
    assert pushed.stages_run(done.stdout) == ["synthesize", "split"]
    pushed.run(*push)

    colleague = place.clone(origin, "colleague")
    assert "smaller" in colleague.run("dvc", "exp", "list", "origin").stdout
    colleague.run(*pull)
    colleague.run(*apply)
    assert outputs(colleague) == outputs(pushed)
    data = {name: hashed for name, hashed in contents(pushed).items() if name.startswith("data/")}
    assert len(data) == 8 * len(CLASSES) + 4 and data.items() <= contents(colleague).items()
    (colleague.folder / MODEL).write_bytes(b"newer")  # a newer model, as far as DVC is concerned
    colleague.run("dvc", "commit", "--force", MODEL)
    colleague.commit("smaller")
    for command in commands("Storage: where data and models are kept"):
        colleague.run(*command)
    changed = {name for name, md5 in outputs(colleague).items() if md5 != outputs(untouched)[name]}
    assert changed == {"data/synthetic", "data/splits", MODEL}
    audit_an_old_commit(place.clone(origin, "auditor"), place, old, untouched)


def audit_an_old_commit(auditor: Project, place: Place, old: str, untouched: Project) -> None:
    """The documented commands bring back what was made, beside a newer commit and after the remote has moved."""
    *audit, get, url, verify = commands("The exact model of an old commit", {"COMMIT": old})
    auditor.run(*url[:-1], place.switch[0][-1])
    auditor.run(*verify)
    auditor.run(*get)
    assert file_sha256(auditor.folder / "audited.onnx") == file_sha256(untouched.folder / MODEL)
    remove(auditor, "audited.onnx")
    *fetch, repro = audit
    for command in fetch:
        auditor.run(*command)
    assert auditor.stages_run(auditor.run(*repro).stdout) == []
    assert contents(auditor) == contents(untouched)
    assert auditor.run("git", "status", "--porcelain").stdout == ""


def test_every_remote_of_the_document_has_its_extra() -> None:
    rows = re.findall(r"^\| .* \| `dvc remote modify storage url (\w+)://\S+` \| `(\w+)` \|$", DOC, re.MULTILINE)
    assert {scheme for scheme, _ in rows} == {"s3", "gs", "azure", "ssh", "webdavs"}
    project = (ROOT / "pyproject.toml").read_text()
    for _, extra in rows:
        assert f'{extra} = ["dvc[{extra}]"]' in project
