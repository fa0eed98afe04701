@echo off
rem Sets Ovi Studio up in .venv and runs it.
rem   launch.bat                 the page on http://localhost:7860
rem   launch.bat test            all tests
rem   launch.bat test-gpu        checks on a GPU of 24 GB or more
rem   launch.bat generate ...    any command of "python -m ovi_studio"
rem Set-up is skipped when requirements.txt has not changed since the last time.
setlocal
cd /d "%~dp0"

fc /b requirements.txt .venv\requirements.installed >nul 2>&1 && goto run

set "FOUND="
if defined PYTHON call :try "%PYTHON%"
if not defined FOUND call :try py -3
if not defined FOUND call :try python
if not defined FOUND (
  echo Ovi Studio needs Python 3.11 or newer; install it from python.org, or name it in the variable PYTHON. 1>&2
  exit /b 1
)
echo Setting up in .venv; the first time this downloads some gigabytes ... 1>&2
if not exist .venv\Scripts\python.exe (
  %FOUND% -m venv --clear .venv || exit /b 1
)
.venv\Scripts\python.exe -m pip install --quiet --disable-pip-version-check -r requirements.txt || exit /b 1
rem Last, so that an interrupted set-up is done again.
copy /y requirements.txt .venv\requirements.installed >nul

:run
if "%~1"=="" goto page
set "FIRST=%~1"
if "%FIRST:~0,2%"=="--" goto page
if /i "%FIRST%"=="test" goto test
if /i "%FIRST%"=="test-gpu" goto gpu
.venv\Scripts\python.exe -m ovi_studio %*
exit /b %errorlevel%

:page
.venv\Scripts\python.exe app.py %*
exit /b %errorlevel%

:test
.venv\Scripts\ruff.exe format --check . || exit /b 1
.venv\Scripts\ruff.exe check . || exit /b 1
.venv\Scripts\python.exe -m pytest %2 %3 %4 %5 %6 %7 %8 %9
exit /b %errorlevel%

:gpu
.venv\Scripts\python.exe tests\gpu %2 %3 %4 %5 %6 %7 %8 %9
exit /b %errorlevel%

:try
%* -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>&1 && set "FOUND=%*"
exit /b 0
