"""A helper for prompts: a chat model rewrites a prompt in the variant's format, for a person to read and accept.

`chat` is the protocol of a chat model; `server_chat` speaks to a server of the owner's, `local_chat` to a model in a
process of this machine. `instructions` is what the model is told, `answer` what its answer must be, `suggestion` the
way from a prompt to a suggestion. Nothing is sent anywhere unless the owner has set a helper. Imports no torch.
"""

from ovi_studio.services.prompt_helper.chat import ChatModel, Message
from ovi_studio.services.prompt_helper.settings import HelperSettings
from ovi_studio.services.prompt_helper.suggestion import Suggestion, suggest

__all__ = ["ChatModel", "HelperSettings", "Message", "Suggestion", "suggest"]
