"""What a client learns of an error: a sentence, and neither a traceback nor a path nor the name of an exception.

Gradio (6.31) sends errors that are not its own as `null`, or with `show_error` as they are.
"""

import logging
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.queue.paths import PAGE_LOG
from ovi_studio.web import texts
from ovi_studio.web.public_text import without_folders

log = logging.getLogger(__name__)


def answer_in_sentences(page: gr.Blocks) -> None:
    """Let every handler and endpoint of a page fail with a sentence; what was not expected is logged."""
    process = page.process_api

    # Replaced and not overridden: Gradio would write a stub file for a subclass.
    async def process_api(*given: Any, **named: Any) -> dict[str, Any]:
        try:
            return await process(*given, **named)
        except (JobError, gr.Error) as error:
            sentence = error.message if isinstance(error, gr.Error) else str(error)
            raise gr.Error(without_folders(str(sentence)), print_exception=False) from error
        except Exception as error:
            log.exception("A request cannot be answered")
            raise gr.Error(texts.UNEXPECTED.format(log=PAGE_LOG), print_exception=False) from error

    page.process_api = process_api
