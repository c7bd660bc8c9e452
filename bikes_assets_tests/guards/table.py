"""Guards of the code: what each is taken out by, and the tests that have to fail then."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Guard:
    """A guard.

    Args:
        name: what it guards against.
        module: its file, under `bikes_assets`.
        old: text that stands there once.
        new: what stands there without the guard.
        tests: the tests that notice it, under `bikes_assets_tests`, as pytest names them.
    """

    def __init__(self, name: str, module: str, old: str, new: str, *tests: str) -> None:
        self.name, self.file, self.old, self.new = name, f"bikes_assets/{module}", old, new
        self.tests = tuple(f"bikes_assets_tests/{test}" for test in tests)

    def stands(self) -> int:
        """Return how often its text stands in its file."""
        return (ROOT / self.file).read_text().count(self.old)

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


GUARDS = (
    # processes and runs
    Guard(
        "a process that got the id of another",
        "adapters/workers.py",
        'not birth or self.birth not in ("", birth)',
        "not birth",
        "adapters/test_workers.py::test_another_process_that_got_the_id_is_not_the_one_that_executed_a_run",
    ),
    Guard(
        "process ids of another machine",
        "adapters/workers.py",
        "        if self.host != socket.gethostname():\n            return False",
        "",
        "adapters/test_workers.py::test_a_process_is_gone_only_where_that_can_be_known",
    ),
    Guard(
        "a process that has ended and that nobody waited for",
        "adapters/workers.py",
        '        if process.status() == psutil.STATUS_ZOMBIE:\n            return ""\n',
        "",
        "adapters/test_workers.py::test_a_process_that_has_ended_is_gone_also_while_nobody_has_waited_for_it",
    ),
    Guard(
        "runs that wait to be launched",
        "adapters/workers.py",
        "            continue  # it waits",
        "            pass  # it waits",
        "adapters/test_workers.py::test_a_run_that_waits_is_left_alone",
    ),
    Guard(
        "tags of the run that one executes again",
        "adapters/workers.py",
        "    if of == run.run_id[:8]:",
        "    if of:",
        "adapters/test_workers.py::test_a_run_that_is_executed_again_is_not_judged_by_the_tags_of_the_first",
    ),
    Guard(
        "two runs at once",
        "runs.py",
        "        lock.acquire(timeout=0)\n",
        "        return (yield)\n",
        "test_runs.py::test_of_two_runs_at_once_the_later_one_finds_done_what_the_first_one_did",
    ),
    Guard(
        "doing again what the run before has done",
        "runs.py",
        "            work.present = present.now(source)\n            _work_off",
        "            _work_off",
        "test_runs.py::test_of_two_runs_at_once_the_later_one_finds_done_what_the_first_one_did",
    ),
    # files
    Guard(
        "half a file",
        "adapters/disk.py",
        "    with _beside(file, content) as part:\n        part.replace(file)\n",
        "    _make(file.parent)\n    file.write_bytes(content)\n",
        "adapters/test_torn.py::test_a_file_whose_writing_fails_is_as_it_was_and_nothing_is_left_beside_it",
    ),
    Guard(
        "two that create a file",
        "adapters/disk.py",
        "            os.link(part, file)",
        "            part.replace(file)",
        "adapters/test_torn.py::test_a_file_whose_writing_fails_is_as_it_was_and_nothing_is_left_beside_it",
    ),
    Guard(
        "rests of what was not written",
        "adapters/disk.py",
        "        part.unlink(missing_ok=True)",
        "        pass",
        "adapters/test_torn.py::test_a_file_whose_writing_fails_is_as_it_was_and_nothing_is_left_beside_it",
    ),
    Guard(
        "folders that others can write to",
        "adapters/files.py",
        " and not state.st_mode & stat.S_IWOTH",
        "",
        "adapters/test_files.py::test_a_folder_is_of_this_user_where_no_other_can_write",
    ),
    Guard(
        "a damaged memory",
        "adapters/memory.py",
        'if kept["crc32"] == _sum(kept["values"]) else None',
        "",
        "adapters/test_commits.py::test_a_memory_of_which_any_bit_was_flipped_is_none",
    ),
    # the lake
    Guard(
        "a path in the place of a model file's SHA-256",
        "adapters/lake.py",
        "_SHA256.fullmatch",
        "_SHA256.match",
        "adapters/test_lake.py::test_what_is_no_sha256_names_no_model_file",
    ),
    Guard(
        "another model file in the place of one",
        "adapters/lake.py",
        "        if file_digest(content) != sha256:",
        "        if False:",
        "adapters/test_lake.py::test_a_model_file_is_checked_before_it_is_used",
    ),
    Guard(
        "a model file that fills memory",
        "adapters/lake.py",
        "(size := filesystem.size(path)) > model_file.MAX_BYTES",
        "(size := filesystem.size(path)) < 0",
        "adapters/test_lake.py::test_a_model_file_beyond_the_limit_is_not_read",
    ),
    Guard(
        "another difference in the place of a kept one",
        "adapters/lake.py",
        "        if found.digest != digest:",
        "        if False:",
        "adapters/test_lake.py::test_a_difference_that_is_not_what_was_kept_is_refused",
    ),
    Guard(
        "code that is not of its code version",
        "adapters/lake.py",
        "        if code_version_of(reached) == code_version:",
        "        if True:",
        "adapters/test_lake.py::test_code_that_is_not_of_its_code_version_is_not_kept",
    ),
    Guard(
        "a difference that leaves its tree",
        "adapters/working_tree.py",
        "    if not path.resolve().is_relative_to(root.resolve()):",
        "    if False:",
        "adapters/test_working_tree.py::test_a_difference_writes_nothing_outside_its_tree",
    ),
    # secrets and texts
    Guard(
        "secrets that a URL holds encoded",
        "lineage/secrets.py",
        "dict.fromkeys((secret, unquote(secret), unquote_plus(secret)))",
        "(secret,)",
        "lineage/test_secrets.py::test_what_was_learned_is_hidden_in_every_form",
    ),
    Guard(
        "names that are as short as a secret",
        "lineage/secrets.py",
        "if len(secret) >= SHORTEST",
        "if secret",
        "lineage/test_secrets.py::test_a_short_secret_is_hidden_in_what_is_said_of_its_url_alone",
    ),
    Guard(
        "causes of an error that tell a secret",
        "lineage/secrets.py",
        "    if all(scrubbed(text) == text for text in texts):",
        "    if True:",
        "lineage/test_secrets.py::test_an_error_whose_causes_tell_a_secret_is_replaced_and_another_is_not",
    ),
    Guard(
        "secrets in what is printed",
        "lineage/secrets.py",
        "_scrubbing(known.write)",
        "known.write",
        "lineage/test_secrets.py::test_whatever_is_printed_is_scrubbed_and_never_fails_for_its_characters",
    ),
    Guard(
        "secrets in messages of errors",
        "lineage/errors.py",
        "shortened(scrubbed(line), ",
        "shortened(line, ",
        "lineage/test_secrets.py::test_messages_of_errors_are_scrubbed_as_they_are_made",
    ),
    Guard(
        "secrets in messages of drivers",
        "adapters/source_errors.py",
        "scrubbed(str(plain), source)",
        "str(plain)",
        "adapters/test_source_errors.py::test_any_other_error_is_one_line_without_secrets",
    ),
    Guard(
        "secrets in what a driver raised before",
        "adapters/source_errors.py",
        "from None  # the cause",
        "from error  # the cause",
        "adapters/test_source_errors.py::test_any_other_error_is_one_line_without_secrets",
    ),
    Guard(
        "a URL with its password",
        "lineage/secrets.py",
        '_USER.sub(f"{_HIDDEN}@", url)',
        "url",
        "lineage/test_secrets.py::test_a_url_is_shown_without_user_password_and_query",
    ),
    Guard(
        "Markdown in cells",
        "lineage/texts.py",
        "[*map(markdown, row)]",
        "[*map(plain, row)]",
        "test_hostile_texts.py::test_markdown_shows_it_as_it_is_written",
    ),
    Guard(
        "control characters",
        "lineage/texts.py",
        "    return told if told.isprintable() else",
        "    return told if told else",
        "test_hostile_texts.py::test_an_error_is_one_line_that_shows_it_as_it_is_written",
    ),
    Guard(
        "HTML in Markdown",
        "lineage/texts.py",
        "html.escape(plain(text), quote=False)",
        "plain(text)",
        "test_hostile_texts.py::test_markdown_shows_it_as_it_is_written",
    ),
    Guard(
        "HTML",
        "lineage/texts.py",
        "    return html.escape(plain(text))",
        "    return plain(text)",
        "test_hostile_texts.py::test_html_and_svg_show_it_as_it_is_written",
    ),
    Guard(
        "texts without end",
        "lineage/texts.py",
        "    if len(text) <= most:",
        "    if True:",
        "test_hostile_texts.py::test_what_is_long_is_shortened_by_one_rule",
    ),
    # reconciliation
    Guard(
        "reporting what a run at work is about to report",
        "adapters/sync.py",
        "run is None or (run.is_finished and not may_report(instance, run))",
        "True",
        "adapters/test_sync.py::test_what_a_run_at_work_has_committed_is_reported_by_that_run",
    ),
    Guard(
        "reporting what the process of an ended run may report yet",
        "adapters/sync.py",
        "(run.is_finished and not may_report(instance, run))",
        "run.is_finished",
        "adapters/test_sync.py::test_what_a_run_has_committed_is_reported_by_its_process_as_long_as_that_is_there",
    ),
    Guard(
        "a mark that was made meanwhile",
        "adapters/sync.py",
        "    if agreement.left or unlogged != backlog(pipeline.instance):",
        "    if agreement.left:",
        "adapters/test_sync.py::test_what_came_to_be_unlogged_meanwhile_keeps_its_mark",
    ),
    Guard(
        "two that reconcile at once",
        "adapters/sync.py",
        '    with FileLock(Path(pipeline.instance.root_directory) / ".bikes_sync.lock", timeout=600):',
        "    if True:",
        "adapters/test_sync.py::test_nobody_else_reconciles_meanwhile",
    ),
    # the event log
    Guard(
        "an index of another event log",
        "adapters/event_log.py",
        "bool(index.cursor) and index.log != identity(storage, index.cursor)",
        "False",
        "adapters/test_event_log.py::test_of_a_restored_event_log_nothing_is_known_that_it_does_not_hold",
    ),
    Guard(
        "an index of events that were deleted",
        "adapters/event_log.py",
        '        f"{count} {hashlib',
        '        f"{hashlib',
        "adapters/test_event_log.py::test_of_an_event_log_from_which_events_were_deleted_the_rest_alone_is_known",
    ),
    # tables
    Guard(
        "a newer result of another run",
        "adapters/delta.py",
        "            if newest > since:",
        "            if False:",
        "adapters/test_delta.py::test_a_slower_duplicate_does_not_overwrite_a_newer_result",
    ),
    Guard(
        "commits of two writers in one version",
        "adapters/delta.py",
        "                        max_commit_retries=0,  #",
        "                        #",
        "adapters/test_delta.py::test_who_is_overtaken_in_another_partition_goes_on",
    ),
    Guard(
        "an empty partition key",
        "adapters/delta.py",
        '        if partition == "":',
        "        if False:",
        "adapters/test_delta.py::test_an_empty_partition_key_is_refused",
    ),
    Guard(
        "rows that were changed in their file",
        "adapters/delta.py",
        "            if content != commit.content:",
        "            if False:",
        "adapters/test_delta.py::test_a_value_edited_in_a_file_is_found_out",
    ),
    Guard(
        "a bit that was flipped in a file",
        "adapters/delta.py",
        "if seal and (sha256 := file_digest(content)) != seal:",
        "if False:",
        "adapters/test_delta.py::test_a_flipped_bit_in_a_seal_is_refused",
    ),
    Guard(
        "columns of another type",
        "adapters/delta.py",
        "if ours[name].type != stored[name].type",
        "if False",
        "adapters/test_delta.py::test_columns_of_other_types_than_the_tables_are_refused",
    ),
    Guard(
        "a memory without bounds",
        "adapters/delta.py",
        "        while self.bytes > self._most:",
        "        while False:",
        "adapters/test_delta.py::test_memory_is_bounded_and_forgets_the_oldest",
    ),
    Guard(
        "files that are cut short",
        "adapters/delta.py",
        '                if size != file["size_bytes"]:',
        "                if False:",
        "adapters/test_torn.py::test_a_file_that_is_cut_short_is_named",
    ),
    Guard(
        "a partition key that is no text",
        "adapters/delta.py",
        "    except UnicodeEncodeError:",
        "    except ZeroDivisionError:",
        "adapters/test_delta.py::test_a_partition_key_that_is_no_text_is_refused_before_anything_is_written",
    ),
    Guard(
        "a table of another version of the project",
        "adapters/delta.py",
        "        if set(found) != expected and not",
        "        if False and not",
        "adapters/test_outside.py::test_a_table_of_another_version_of_the_project_is_refused_as_before",
    ),
    Guard(
        "a torn commit",
        "adapters/delta_log.py",
        "        if _is_whole_commit(folder / name):",
        "        if True:",
        "adapters/test_torn.py::test_a_torn_commit_is_set_aside_and_its_version_is_given_again",
    ),
    Guard(
        "a torn checkpoint",
        "adapters/delta_log.py",
        "    if last and not _is_whole_checkpoint(folder / last):",
        "    if False:",
        "adapters/test_torn.py::test_a_torn_checkpoint_is_set_aside_and_the_commits_tell_all",
    ),
    Guard(
        "a torn hint",
        "adapters/delta_log.py",
        "    elif _HINT in names and not",
        "    elif False and not",
        "adapters/test_torn.py::test_a_torn_hint_is_set_aside",
    ),
    Guard(
        "a log that was restored and went on otherwise",
        "adapters/commits.py",
        "        return file_digest(content) == self._last",
        "        return True",
        "adapters/test_delta.py::test_a_log_that_was_restored_and_went_on_otherwise_is_read_again",
    ),
    Guard(
        "commits that fill memory",
        "adapters/commits.py",
        "            del self._read[number]",
        "            pass",
        "adapters/test_commits.py::test_a_process_keeps_few_of_many_commits",
    ),
    Guard(
        "rows that another program has changed",
        "adapters/commits.py",
        "            elif touched:",
        "            elif False:",
        "adapters/test_outside.py::test_rows_that_another_program_changes_are_named_refused_and_replaced",
    ),
    Guard(
        "compaction taken for a change",
        "adapters/commits.py",
        '.get("dataChange", True)',
        "is not None",
        "adapters/test_outside.py::test_compaction_changes_no_rows",
    ),
    # soundness
    Guard(
        "a flipped bit in an earlier version",
        "adapters/soundness.py",
        "        if seal and (sha256 := file_digest(content)) != seal:",
        "        if False:",
        "adapters/test_soundness.py::test_every_flipped_bit_is_found_and_refused",
    ),
    Guard(
        "model files that are needed and gone",
        "adapters/soundness.py",
        "{*lake.model_files(), *needed}",
        "lake.model_files()",
        "adapters/test_soundness.py::test_a_model_file_that_is_needed_and_gone_is_found",
    ),
    Guard(
        "versions without seals told as sealed",
        "adapters/soundness.py",
        "    return Finding(name, unsealed=commit.seals is None)\n\n\ndef differing",
        "    return Finding(name)\n\n\ndef differing",
        "adapters/test_soundness.py::test_versions_from_before_files_were_sealed_are_told",
    ),
    # model files
    Guard(
        "types that are not trusted",
        "lineage/model_file.py",
        "    if foreign:",
        "    if False:",
        "lineage/test_model_file.py::test_a_type_that_is_not_listed_is_neither_written_nor_read",
    ),
    Guard(
        "a model file that unpacks to more than it is",
        "lineage/model_file.py",
        "        if packed:",
        "        if False:",
        "lineage/test_model_file.py::test_a_file_that_reads_more_than_it_holds_is_refused",
    ),
    Guard(
        "a model file that is read many times over",
        "lineage/model_file.py",
        "    _check_size(sum(read.values()), content)",
        "    pass",
        "lineage/test_model_file.py::test_a_file_that_reads_more_than_it_holds_is_refused",
    ),
    Guard(
        "a model file beyond the limit",
        "lineage/model_file.py",
        "    if len(content) > MAX_BYTES:",
        "    if False:",
        "lineage/test_model_file.py::test_a_file_that_is_too_large_is_neither_written_nor_opened",
    ),
    # pages of others
    Guard(
        "names that were made to point here",
        "guarded.py",
        '    if urlsplit(f"//{host}").hostname not in names:',
        "    if False:",
        "test_guarded.py::test_what_other_pages_send_is_refused",
    ),
    Guard(
        "pages of other origins",
        "guarded.py",
        "    if origin is not None and urlsplit(origin).netloc != host:",
        "    if False:",
        "test_guarded.py::test_what_other_pages_send_is_refused",
    ),
    Guard(
        "links that execute GraphQL",
        "guarded.py",
        '    if is_link and path.rstrip("/") != "/graphql":',
        "    if is_link:",
        "test_guarded.py::test_what_other_pages_send_is_refused",
    ),
    # repositories of others
    Guard(
        "variables that name another repository",
        "adapters/foreign_git.py",
        'if not name.startswith("GIT_")} | _QUIET',
        "} | _QUIET",
        "adapters/test_foreign_git.py::test_what_the_environment_says_of_git_is_of_another_repository",
    ),
    Guard(
        "names of files as patterns",
        "adapters/foreign_git.py",
        '    "GIT_LITERAL_PATHSPECS": "1",  #',
        "    #",
        "adapters/test_foreign_git.py::test_a_name_is_no_pattern",
    ),
    Guard(
        "pipes in a repository",
        "adapters/foreign_git.py",
        "    if not file.is_file():",
        "    if not file.exists():",
        "adapters/test_foreign_git.py::test_a_damaged_repository_says_nothing_and_holds_nobody_up",
    ),
    # retention
    Guard(
        "removing what came to be held",
        "adapters/retention.py",
        "    if removal and needed:",
        "    if False:",
        "adapters/test_retention.py::test_a_hold_that_is_put_while_it_is_being_removed_keeps_everything",
    ),
    Guard(
        "removing a model file that a run is about to name",
        "adapters/retention.py",
        " if written < now - DAY",
        "",
        "adapters/test_retention.py::test_a_model_file_that_was_written_lately_stays_for_a_run_that_is_about_to_name_it",
    ),
    Guard(
        "removing a model file that a version that stays names",
        "adapters/retention.py",
        ' and model["sha256"] not in kept',
        "",
        "adapters/test_retention.py::test_a_model_file_goes_with_the_last_version_that_names_it",
    ),
    Guard(
        "removing a file that another commit has added again",
        "adapters/retention.py",
        "if path in there} - kept",
        "if path in there}",
        "adapters/test_retention.py::test_a_file_that_another_commit_added_again_stays",
    ),
    Guard(
        "damage told as removed",
        "adapters/removed.py",
        "    if found := removed_versions(lake).get(address):",
        "    if found := next(iter(removed_versions(lake).values()), None):",
        "adapters/test_retention.py::test_what_is_missing_and_was_not_removed_is_to_be_restored",
    ),
    # sources
    Guard(
        "a packed file that fills memory",
        "adapters/readers.py",
        "            plain = unpacked(name, content, limits.max_bytes)",
        "            plain = unpacked(name, content, 1 << 40)",
        "adapters/test_readers.py::test_a_gzip_bomb_is_stopped_while_unpacking",
    ),
    Guard(
        "more rows than the limit",
        "adapters/formats.py",
        "    if rows > limits.max_rows:",
        "    if False:",
        "adapters/test_readers.py::test_files_beyond_the_limits_are_refused",
    ),
    Guard(
        "a footer that declares more rows than there are",
        "adapters/formats.py",
        "    if len(table) != file.metadata.num_rows:",
        "    if False:",
        "adapters/test_readers.py::test_parquet_whose_footer_declares_more_than_it_holds_is_refused",
    ),
    Guard(
        "Parquet that unpacks to more than the limit",
        "adapters/formats.py",
        "    if not 0 <= size <= limits.max_bytes:",
        "    if False:",
        "adapters/test_readers.py::test_parquet_beyond_the_limits_is_refused_before_it_is_decoded",
    ),
    Guard(
        "columns out of order",
        "adapters/formats.py",
        "        if column != place:",
        "        if False:",
        "adapters/test_readers.py::test_parquet_of_other_columns_is_refused",
        "adapters/test_readers.py::test_a_faulty_text_file_is_refused",
    ),
    Guard(
        "a quotation mark that joins lines",
        "adapters/formats.py",
        """            if line.count(b'"') % 2:""",
        "            if False:",
        "adapters/test_readers.py::test_a_faulty_text_file_is_refused",
    ),
    Guard(
        "a database that SQLite would create",
        "adapters/readers.py",
        '        if url.get_backend_name() == "sqlite" and',
        "        if False and",
        "adapters/test_readers.py::test_a_query_beyond_the_limits_and_a_missing_database_are_refused",
    ),
    # settings and snapshots
    Guard(
        "a store at a path that it cannot hold",
        "settings.py",
        "            if found := refused.search(path):",
        "            if found := None:",
        "test_settings.py::test_a_path_that_a_store_cannot_hold_is_named",
    ),
    Guard(
        "months out of order",
        "settings.py",
        "        if self.first_month and self.last_month and self.first_month > self.last_month:",
        "        if False:",
        "test_settings.py::test_months_out_of_order_are_named",
    ),
    Guard(
        "links that hold a password",
        "settings.py",
        '    return re.sub(r"(?<=://)[^/]*@", "", url).rstrip("/")',
        '    return url.rstrip("/")',
        "test_settings.py::test_links_hold_no_password",
    ),
    Guard(
        "places of .env in the store that the environment names",
        "settings.py",
        '*(PLACES if "BIKES_DATA" in given else ())',
        "*()",
        "test_settings.py::test_the_environments_data_folder_is_a_whole_store",
    ),
    Guard(
        "a snapshot of another form",
        "lineage/snapshot.py",
        '    if not isinstance(values, dict) or values.get("format") != FORMAT:',
        "    if not isinstance(values, dict):",
        "lineage/test_snapshot.py::test_what_is_no_snapshot_is_refused",
    ),
    # identity of a store
    Guard(
        "the parts of two stores",
        "adapters/identity.py",
        "    if of_lake.store != of_log.store:\n        raise",
        "    if False:\n        raise",
        "adapters/test_identity.py::test_nothing_is_written_where_two_stores_are_claimed",
        "adapters/test_identity.py::test_no_lake_goes_with_another_stores_event_log",
    ),
    Guard(
        "a backup that is restored to two places",
        "adapters/identity.py",
        "        if not is_lake_copied and _has_another(of_lake, of_log, at_lake, at_log):",
        "        if False:",
        "adapters/test_identity.py::test_the_parts_of_a_backup_that_is_restored_to_two_places_do_not_mix",
    ),
    Guard(
        "a second event log of a lake",
        "adapters/identity.py",
        "            _refuse_second_log(of_lake, at_lake, at_log)",
        "            pass",
        "adapters/test_identity.py::test_a_second_event_log_is_refused_while_the_first_is_there",
    ),
    Guard(
        "a lake that was emptied",
        "adapters/identity.py",
        "    if not _has_commit(lake, newest):",
        "    if False:",
        "adapters/test_identity.py::test_a_lake_that_was_lost_or_emptied_is_told",
    ),
)
