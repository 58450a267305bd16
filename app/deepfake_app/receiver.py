"""Receives uploads as ``multipart/form-data`` (RFC 7578), straight into their folders."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from deepfake.errors import DeepfakeError
from deepfake.reasons import Code

from .forms import receive_form
from .guards import refuse
from .storage import Uploads

MOST_FILES = 20
STATUS = {Code.TOO_LARGE: 413, Code.NO_ROOM: 507}


class Receiver:
    """The endpoint: files in, their paths out, as gradio's client expects.

    Nothing of a request that fails stays on disk.
    """

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def receive(self, request: Request) -> Response:
        """Answer one request; 413, 507 and 400 say why nothing was kept."""
        self._uploads.sweep()
        try:
            form = await receive_form(request, self._uploads, most_files=MOST_FILES)
            return JSONResponse([str(file.path) for file in form.files])
        except DeepfakeError as error:
            return refuse(STATUS.get(error.code, 400), str(error))
        except FormParserError:
            return refuse(400, "This is not a form with files.")
        except OSError:
            return refuse(507, "The file could not be stored.")
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
